"""The report: how the codes are used, how good the pictures are, what a token means. Codebook use needs no torch."""

from __future__ import annotations

from tokenizer.report.baselines import Baseline
from tokenizer.report.code_pictures import codebook_picture
from tokenizer.report.codebooks import CodebookReport, Distances, codebook_reports
from tokenizer.report.extremes import Extremes
from tokenizer.report.figures import figure_lines, reports_to_csv
from tokenizer.report.quality import RFID_LEAST, ImageQuality, Quality, measure_quality
from tokenizer.report.rates import ContextRate, Rate
from tokenizer.report.report_page import ReportSection, report_page
from tokenizer.report.stability import Change, Stability, measure_stability
from tokenizer.report.streams import CurvePoint
from tokenizer.report.usage import Joint, Positions, SlotReport
from tokenizer.report.usage_report import REPORT_VERSION, Report, usage_report

__all__ = [
    "REPORT_VERSION",
    "RFID_LEAST",
    "Baseline",
    "Change",
    "CodebookReport",
    "ContextRate",
    "CurvePoint",
    "Distances",
    "Extremes",
    "ImageQuality",
    "Joint",
    "Positions",
    "Quality",
    "Rate",
    "Report",
    "ReportSection",
    "SlotReport",
    "Stability",
    "codebook_picture",
    "codebook_reports",
    "figure_lines",
    "measure_quality",
    "measure_stability",
    "report_page",
    "reports_to_csv",
    "usage_report",
]
