"""The report: how the codes are used, how good the pictures are, what a token means. Codebook use needs no torch."""

from tokenizer.evaluate.codebooks import CodebookReport, Distances, codebook_reports
from tokenizer.evaluate.peers import Peer
from tokenizer.evaluate.quality import RFID_LEAST, ImageQuality, Quality, measure_quality
from tokenizer.evaluate.rates import Context, Rate
from tokenizer.evaluate.report import REPORT_VERSION, Report, usage_report
from tokenizer.evaluate.stability import Change, Stability, measure_stability
from tokenizer.evaluate.streams import CurvePoint
from tokenizer.evaluate.usage import Joint, Positions, SlotReport

__all__ = [
    "REPORT_VERSION",
    "RFID_LEAST",
    "Change",
    "CodebookReport",
    "Context",
    "CurvePoint",
    "Distances",
    "ImageQuality",
    "Joint",
    "Peer",
    "Positions",
    "Quality",
    "Rate",
    "Report",
    "SlotReport",
    "Stability",
    "codebook_reports",
    "measure_quality",
    "measure_stability",
    "usage_report",
]
