from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.matrix import load_matrix, map_safetensors

VALUES = np.array([[1.0, -2.5], [0.0, 3.0], [4.0, 0.125]], dtype=np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_npy_of_any_number_type_becomes_float32(tmp_path, dtype):
    np.save(tmp_path / "given.npy", VALUES.astype(dtype))
    loaded = load_matrix(tmp_path / "given.npy", 3)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, VALUES.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_safetensors_of_any_float_type_become_float32(tmp_path, dtype):
    save_torch_file({"x": torch.from_numpy(VALUES).to(dtype)}, tmp_path / "given.safetensors")
    loaded = load_matrix(tmp_path / "given.safetensors", 3)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, VALUES)  # these values are exact in all four types


def test_the_right_tensor_of_several_is_mapped(tmp_path):
    save_file({"a": VALUES[:1], "matrix": VALUES, "z": VALUES[:2]}, tmp_path / "several.safetensors")
    np.testing.assert_array_equal(map_safetensors(tmp_path / "several.safetensors"), VALUES)
    np.testing.assert_array_equal(map_safetensors(tmp_path / "several.safetensors", "z"), VALUES[:2])
    with pytest.raises(FeatureError, match="named other; it holds a, matrix, z"):
        map_safetensors(tmp_path / "several.safetensors", "other")


def test_two_tensors_none_of_them_named_matrix_are_refused(tmp_path):
    save_file({"a": VALUES, "b": VALUES}, tmp_path / "two.safetensors")
    with pytest.raises(FeatureError, match="must hold a tensor named matrix"):
        load_matrix(tmp_path / "two.safetensors", 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (VALUES[:2], "is 2 x 2, but 3 rows"),
        (VALUES[:, :1], "is 3 x 1, but 3 rows .* of width 2"),
        (VALUES[0], r"float32 \[2\], a float matrix"),
        (VALUES.astype(str), "a float matrix"),
        (np.where(VALUES == 3.0, np.nan, VALUES), "NaN or infinite numbers .first in row 1"),
        (
            np.where(VALUES == 3.0, 1e300, VALUES.astype(np.float64)),
            "NaN or infinite numbers .first in row 1",
        ),
    ],
)
def test_unfit_matrices_are_one_clear_error(tmp_path, content, message):
    np.save(tmp_path / "given.npy", content)
    with pytest.raises(FeatureError, match=f"item_features_file: .*given.npy .*{message}") as error:
        load_matrix(tmp_path / "given.npy", 3, width=2)
    assert "\n" not in str(error.value)


def test_pickled_content_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    np.save(tmp_path / "evil.npy", np.array([[Evil()]], dtype=object), allow_pickle=True)
    with pytest.raises(FeatureError, match=r"not a complete \.npy file of numbers"):
        load_matrix(tmp_path / "evil.npy", 1)
    assert not (tmp_path / "ran").exists()


def test_missing_cut_short_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(FeatureError, match="there is no file"):
        load_matrix(tmp_path / "none.npy", 3)
    (tmp_path / "table.csv").write_text("1,2")
    with pytest.raises(FeatureError, match=r"must be a \.npy or \.safetensors"):
        load_matrix(tmp_path / "table.csv", 3)
    np.save(tmp_path / "whole.npy", VALUES)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-4])
    with pytest.raises(FeatureError, match=r"not a complete \.npy"):
        load_matrix(tmp_path / "cut.npy", 3)
    (tmp_path / "empty.npy").write_bytes(b"")
    with pytest.raises(FeatureError, match=r"not a complete \.npy"):
        load_matrix(tmp_path / "empty.npy", 3)


@pytest.mark.parametrize(
    "header",
    [
        b'{"matrix":{"dtype":"F32","shape":[3,2],"data_offsets":[0,99]}}',
        b'{"matrix":{"dtype":"F32","shape":[9,9],"data_offsets":[0,24]}}',
        b'{"matrix":{"dtype":"F32","shape":[-3,-2],"data_offsets":[24,0]}}',
        b'{"matrix":[1]}',
        b"not json",
    ],
)
def test_lying_headers_are_refused(tmp_path, header):
    (tmp_path / "lying.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + VALUES.tobytes())
    with pytest.raises(FeatureError, match="not a complete safetensors file"):
        load_matrix(tmp_path / "lying.safetensors", 3)
