"""Training: a layer over RecBole's trainers that judges, selects and keeps runs."""

from recbole_cdsr.trainer.selection import check_valid_metric
from recbole_cdsr.trainer.trainer import CDSRTrainerMixin
from recbole_cdsr.trainer.trainer_classes import trainer_class_for

__all__ = ["CDSRTrainerMixin", "check_valid_metric", "trainer_class_for"]
