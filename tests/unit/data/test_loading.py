"""Every bad input is answered with one sentence that names the file, the line and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_cdsr.data.loading import AtomicFile, interaction_files
from recbole_cdsr.errors import ConfigError, DataError

ITEM_HEADER, INTER_HEADER = "item_id:token\tdomain:token", "user_id:token\titem_id:token\ttimestamp:float"
ITEMS = ["a1\ta", "a2\ta", "a3\ta", "b1\tb", "b2\tb"]
INTER = ["u1\ta1\t1", "u1\tb1\t2", "u1\ta2\t3", "u2\tb2\t1", "u2\ta1\t2"]
MODELS = ("GRU4Rec", "BPR")


@pytest.fixture
def write(tmp_path: Path):
    """Write a dataset line by line, sound unless lines are replaced; a `str` is the whole file, `bytes` too."""

    def put(items=None, inter=None, name: str = "tiny", **parts) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        files = {f"{name}.item": items if items is not None else [ITEM_HEADER, *ITEMS]}
        if parts:
            for part, lines in parts.items():
                files[f"{name}.{part}.inter"] = lines
        if inter is not None or not parts:
            files[f"{name}.inter"] = inter if inter is not None else [INTER_HEADER, *INTER]
        for file, content in files.items():
            if isinstance(content, list):
                content = "\n".join(content) + "\n"
            if isinstance(content, str):
                content = content.encode()
            (folder / file).write_bytes(content)
        return folder

    return put


def refused(load, *pieces: str, error: type = DataError, models=MODELS, **settings) -> None:
    """Loading fails for sequential and general models alike, in one line that holds the pieces."""
    for model in models:
        with pytest.raises(error) as caught:
            load(model, **settings).build()
        message = str(caught.value)
        for piece in pieces:
            assert piece in message, message
        assert "\n" not in message
        assert "Traceback" not in message


def test_sound_files_load(write, load):
    write()
    for model in MODELS:
        assert [len(part) for part in load(model).build()][2] == 1


# --------------------------------------------------------------------------------------------------- what is not there
def test_a_dataset_that_is_not_there_is_told_how_to_be_converted(load, tmp_path):
    refused(load, "'nowhere' is not there", str(tmp_path / "nowhere"), "recbole-cdsr convert", name="nowhere")
    (tmp_path / "nowhere.replaced-7").mkdir()
    refused(load, "a conversion was killed", str(tmp_path / "nowhere.replaced-7"), name="nowhere")


def test_a_folder_without_interactions(write, load, tmp_path):
    folder = write()
    (folder / "tiny.inter").unlink()
    refused(load, "tiny.inter", "tiny.train.inter, tiny.valid.inter, tiny.test.inter")
    (folder / "tiny.train.inter").write_text(INTER_HEADER + "\n")
    refused(load, "missing: tiny.valid.inter, tiny.test.inter")


def test_both_kinds_of_interaction_files(write, load):
    write(inter=[INTER_HEADER, *INTER], train=[INTER_HEADER, *INTER])
    refused(load, "both tiny.inter and tiny.train.inter", "keep")


def test_the_one_file_or_the_three_are_found(write, tmp_path):
    folder = write()
    assert interaction_files(folder, "tiny") == [folder / "tiny.inter"]
    parts = {part: [INTER_HEADER, *INTER] for part in ("train", "valid", "test")}
    folder = write(name="release", **parts)
    found = interaction_files(folder, "release")
    assert [path.name for path in found] == [f"release.{part}.inter" for part in parts]


def test_no_item_file(write, load):
    folder = write()
    (folder / "tiny.item").unlink()
    refused(load, "tiny.item", "domain of every item")


# ----------------------------------------------------------------------------------------------------------- items
@pytest.mark.parametrize(
    ("lines", "pieces"),
    [
        ([ITEM_HEADER, "a1\ta", "a2\t", "b1\tb"], ["line 3", "'a2' has no domain"]),
        ([ITEM_HEADER, "a1\ta", "a2", "b1\tb"], ["line 3", "'a2' has no domain"]),
        ([ITEM_HEADER, "a1\ta", "b1\tb", "a1\ta"], ["line 4", "'a1' stands here a second time"]),
        ([ITEM_HEADER, "a1\ta", "b1\tb", "a1\tb"], ["line 4", "'a1' stands here a second time"]),
        ([ITEM_HEADER, *ITEMS[:3]], ["one domain only ('a')", "two or more"]),
        ([ITEM_HEADER, "a1\ta", "b1\tBooks"], ["line 3", "'Books'", "a-z"]),
        ([ITEM_HEADER, "a1\ta", "b1\tb c"], ["line 3", "'b c'"]),
        ([ITEM_HEADER, "a1\ta", "\tb"], ["line 3", "item_id is missing"]),
        (["item_id:token", "a1"], ["line 1", "`domain:token`"]),
        (["domain:token\ttitle:token", "a\tx"], ["line 1", "`item_id:token`"]),
        (["item_id:token\tdomain", "a1\ta"], ["line 1", "'domain'", "name:type"]),
        (["item_id:token\tdomain:tokens", "a1\ta"], ["line 1", "'domain:tokens'"]),
        (["item_id:token\tdomain:token_seq", "a1\ta"], ["line 1", "`domain:token_seq` must be of type token"]),
        (["item_id:token\tdomain:token\tdomain:token", "a1\ta\ta"], ["line 1", "'domain' stands there twice"]),
        ([ITEM_HEADER], ["a header and no row"]),
        ("", ["line 1", "name:type"]),
    ],
)
def test_broken_item_files(write, load, lines, pieces):
    write(items=lines)
    refused(load, "tiny.item", *pieces)


def test_lines_are_those_of_the_file_where_titles_hold_line_breaks(write, load):
    """Quoted line breaks and blank lines move every row after them."""
    header = "item_id:token\tdomain:token\ttitle:token_seq"
    lines = [header, 'a1\ta\t"two\nlines"', "", 'b1\tb\t"three\n\nlines"', "   ", "b2\t\tlast"]
    write(items=lines)
    refused(load, "tiny.item, line 9: item 'b2' has no domain")


def test_a_domain_column_that_is_left_out_by_unload_col(write, load):
    write()
    refused(load, "tiny.item", "`domain:token`", "load_col.item", load_col=None, unload_col={"item": ["domain"]})


# ------------------------------------------------------------------------------------------------------- interactions
@pytest.mark.parametrize(
    ("lines", "pieces"),
    [
        ([INTER_HEADER, *INTER, "u2\tc7\t5"], ["line 7", "'c7' is not in the .item file", "add it"]),
        ([INTER_HEADER, *INTER, "\ta1\t5"], ["line 7", "user_id is missing"]),
        ([INTER_HEADER, *INTER, "NA\ta1\t5"], ["line 7", "user_id is missing", "NA"]),
        ([INTER_HEADER, *INTER, "u2\t\t5"], ["line 7", "item_id is missing"]),
        ([INTER_HEADER, *INTER, "u2\ta1\t"], ["line 7", "timestamp is missing"]),
        ([INTER_HEADER, *INTER, "u2\ta1"], ["line 7", "timestamp is missing"]),
        ([INTER_HEADER, *INTER, "u2\ta1\tinf"], ["line 7", "timestamp is infinite"]),
        ([INTER_HEADER, *INTER[:2], "u1\ta2\tMonday", *INTER[3:]], ["line 4", "timestamp is 'Monday'", "no number"]),
        ([INTER_HEADER, *INTER, "u3\ta1\t5"], ["line 7", "user 'u3' has one interaction only", "[3,inf)"]),
        (["user_id:token\titem_id:token", "u1\ta1"], ["line 1", "no column `timestamp:float`"]),
        (["user_id\titem_id:token\ttimestamp:float", "u1\ta1\t1"], ["line 1", "'user_id'", "name:type"]),
        (["user_id:token:x\titem_id:token\ttimestamp:float", "u1\ta1\t1"], ["line 1", "'user_id:token:x'"]),
        ([INTER_HEADER.replace("float", "token"), *INTER], ["line 1", "`timestamp:token` must be of type float"]),
        ([INTER_HEADER.replace("user_id:token", "user_id:float"), "1\ta1\t1"], ["line 1", "`user_id:float`"]),
        ([INTER_HEADER.replace("\t", ","), "u1,a1,1"], ["line 1", "separated by"]),
        ([INTER_HEADER], ["a header and no row"]),
        (INTER_HEADER, ["a header and no row"]),
        ("", ["line 1", "name:type"]),
        ("\n\n", ["line 1", "name:type"]),
        (b"\xef\xbb\xbf" + "\n".join([INTER_HEADER, *INTER]).encode(), ["line 1", "byte-order mark"]),
        ("\n".join([INTER_HEADER, *INTER, "u2\ta\xe9\t5"]).encode("latin-1"), ["line 7", "not utf-8"]),
        ([INTER_HEADER, *INTER, 'u2\t"a1\t5', "u2\ta1\t6"], ["cannot be read as an atomic file", "doubled"]),
    ],
)
def test_broken_interaction_files(write, load, lines, pieces):
    write(inter=lines)
    refused(load, "tiny.inter", *pieces)


def test_numbers_in_sequences_are_found_too(write, load):
    header = INTER_HEADER + "\tvec:float_seq"
    write(inter=[header, "u1\ta1\t1\t0.5 0.25", "u1\tb1\t2\t", "u1\tb1\t3\t1 2 x3"])
    columns = {"inter": ["user_id", "item_id", "timestamp", "vec"], "item": ["item_id", "domain"]}
    refused(load, "tiny.inter, line 4", "vec is 'x3'", load_col=columns)


def test_counts_of_faulty_lines_are_given(write, load):
    write(inter=[INTER_HEADER, "u1\tx\t1", "u1\ta1\t2", "u1\ty\t3"])
    refused(load, "line 2: item 'x'", "2 such line(s)")


def test_a_column_that_is_left_out_by_unload_col(write, load):
    write()
    refused(load, "column `timestamp` is not loaded", load_col=None, unload_col={"inter": ["timestamp"]})


def test_other_names_of_the_columns(write, load):
    write(
        items=["book:token\tshelf:token", *ITEMS],
        inter=["reader:token\tbook:token\tseconds:float", *INTER, "u3\ta1\t5"],
    )
    names = {"USER_ID_FIELD": "reader", "ITEM_ID_FIELD": "book", "TIME_FIELD": "seconds", "DOMAIN_FIELD": "shelf"}
    columns = {"inter": ["reader", "book", "seconds"], "item": ["book", "shelf"]}
    refused(load, "line 7: user 'u3'", load_col=columns, **names)
    refused(load, "line 7: user 'u3'", **names)  # the columns that are needed are loaded under their names
    data = load("GRU4Rec", load_col=columns, user_inter_num_interval="[2,inf)", **names)
    assert data.domain_names == ["a", "b"]
    assert "book_list" in data.build()[2][:]


# -------------------------------------------------------------------------------------------------------------- filters
def test_filters_drop_short_users(write, load):
    write(inter=[INTER_HEADER, *INTER, "u3\ta1\t5"])
    for model in MODELS:
        assert load(model, user_inter_num_interval="[2,inf)").user_num == 3
        assert load(model, user_inter_num_interval="[3,inf)").user_num == 2


def test_lines_are_those_of_the_file_after_filters(write, load):
    """The filter by time drops two rows and leaves u2 with one."""
    write(inter=[INTER_HEADER, "u1\ta1\t1", "u1\tb1\t-5", "u1\ta2\t3", "u2\tb2\t-1", "", "u2\ta1\t2"])
    refused(load, "tiny.inter, line 7: user 'u2'", val_interval={"timestamp": "[0,inf)"})


@pytest.mark.parametrize("model", MODELS)
def test_interactions_go_with_their_users_and_items(write, load, model):
    folder = write(inter=[INTER_HEADER, *INTER, "u3\ta1\t1", "u3\tb1\t2", "u3\ta2\t3"])
    ages = ["user_id:token\tage:float", "u1\t20", "u2\t20", "u3\t60"]
    (folder / "tiny.user").write_text("\n".join(ages) + "\n", encoding="utf-8")
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "domain"], "user": ["user_id", "age"]}
    whole = load(model, load_col=columns)
    young = load(model, load_col=columns, val_interval={"age": "[0,30]"})
    assert (whole.user_num, young.user_num) == (4, 3)
    assert young.inter_num == whole.inter_num - 3
    assert "u3" not in young.field2token_id["user_id"]


def test_filters_that_leave_one_domain(write, load):
    write()
    refused(load, "tiny.item", "one domain only after filtering ('a')", val_interval={"domain": ["a"]}, error=DataError)


@pytest.mark.parametrize(
    "settings",
    [
        {"user_inter_num_interval": "[100,inf)"},
        {"val_interval": {"domain": "[0,1]"}},
        {"val_interval": {"price": "[0,1]"}},
    ],
)
def test_filters_that_cannot_be_applied(write, load, settings):
    write()
    refused(load, "cannot be applied to 'tiny'", next(iter(settings)), error=ConfigError, **settings)


def test_unused_columns_of_a_table_that_is_not_there(write, load):
    write()
    refused(load, "unused_col names columns of .user", error=ConfigError, unused_col={"user": ["age"]})
    load("SASRec", unused_col={"inter": ["timestamp"]}).build()


# ----------------------------------------------------------------------------------------------------- pre-split files
PARTS = {
    "train": [INTER_HEADER, *INTER],
    "valid": [INTER_HEADER, "v1\ta1\t1", "v1\tb1\t2"],
    "test": [INTER_HEADER, "s1\ta1\t1", "s1\tb1\t2"],
}


def test_sound_pre_split_files_load(write, load):
    write(**PARTS)
    assert [len(part) for part in load("BPR").build()] == [7, 1, 1]


@pytest.mark.parametrize(
    ("part", "lines", "pieces"),
    [
        ("valid", ["v2\ta1\t1", "v1\ta1\t1", "v1\tb1\t2"], ["line 2: user 'v2'", "row of history"]),
        ("test", ["s1\ta1\t1", "s1\tb1\t2", "s2\ta1\t1"], ["line 4: user 's2'", "too short a history"]),
        ("test", ["s1\ta1\t1", "s1\tb9\t2"], ["line 3: item 'b9'"]),
        ("valid", ["v1\ta1\t1", "v1\tb1\t"], ["line 3: timestamp is missing"]),
        ("valid", ["v1\ta1\t1", "v1\tb1\tx"], ["line 3: timestamp is 'x'"]),
        ("train", ["t1\ta1\t1", "\tb1\t1"], ["line 3: user_id is missing"]),
        ("train", [], ["a header and no row"]),
        ("test", [], ["a header and no row"]),
    ],
)
def test_broken_pre_split_files_are_named(write, load, part, lines, pieces):
    write(**PARTS | {part: [INTER_HEADER, *lines]})
    refused(load, f"tiny.{part}.inter", *pieces)


def test_a_pre_split_file_without_a_column(write, load):
    write(**PARTS | {"test": ["user_id:token\titem_id:token", "s1\ta1", "s1\tb1"]})
    refused(load, "tiny.test.inter, line 1", "`timestamp:float`")


def test_a_training_user_of_one_interaction_is_no_fault(write, load):
    write(**PARTS | {"train": [INTER_HEADER, *INTER, "lonely\ta3\t1"]})
    assert [len(part) for part in load("BPR", fold_in=False).build()] == [6, 1, 1]


@pytest.mark.parametrize(
    "settings",
    [
        {"user_inter_num_interval": "[3,inf)"},
        {"item_inter_num_interval": "[2,inf)"},
        {"rm_dup_inter": "first"},
        {"val_interval": {"timestamp": "[0,inf)"}},
    ],
)
def test_filters_on_pre_split_files_are_refused(write, load, settings):
    write(**PARTS)
    refused(load, next(iter(settings)), "pre-split", "--split loo", error=ConfigError, **settings)


# ------------------------------------------------------------------------------------------------------------ places
def test_the_line_of_a_row(tmp_path):
    path = tmp_path / "x.item"
    path.write_text('a:token\tb:token\nx\t"1\n2"\n\ny\t"a ""quote"""\n  \n"z\n"\t3\nlast\t4\n')
    assert [AtomicFile(path).line(row) for row in range(4)] == [2, 5, 7, 9]


def test_the_line_behind_a_cell_too_long_to_read_is_counted_in_rows(tmp_path):
    path = tmp_path / "x.item"
    path.write_text("a:token\n" + "x" * 200_000 + "\ny\n")
    assert AtomicFile(path).line(1) == 3
