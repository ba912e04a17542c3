"""The report: how the codes are used, how good the pictures are, what a token means. Codebook use needs no torch.

`plan_reports` says what will be measured, `build_reports` measures it, `write_reports` writes what the plan names.
"""

from __future__ import annotations

from tokenizer.report.baselines import Baseline
from tokenizer.report.code_pictures import codebook_picture
from tokenizer.report.codebooks import CodebookReport, CodeDistances, codebook_reports
from tokenizer.report.extremes import ExtremePairs
from tokenizer.report.figures import figure_lines, reports_to_csv
from tokenizer.report.flat_areas import FlatAreas, block_deviations, flat_blocks, measure_flat_areas
from tokenizer.report.quality import RFID_LEAST, ImageQuality, Quality, measure_quality
from tokenizer.report.rates import BitRate, ContextRate
from tokenizer.report.report_html import ReportSection, report_page
from tokenizer.report.report_plan import ReportFiles, ReportOptions, ReportPlan, ReportSubject, plan_reports
from tokenizer.report.report_run import (
    MissedThreshold,
    build_reports,
    missed_thresholds,
    report_remarks,
    write_reports,
)
from tokenizer.report.shown_rows import report_rows, reports_to_json, shown_definitions
from tokenizer.report.stability import Stability, TokenChange, measure_stability
from tokenizer.report.streams import CurvePoint
from tokenizer.report.token_report import REPORT_VERSION, Report, usage_report
from tokenizer.report.usage import JointUse, PositionUse, SlotReport

__all__ = [
    "REPORT_VERSION",
    "RFID_LEAST",
    "Baseline",
    "BitRate",
    "CodeDistances",
    "CodebookReport",
    "ContextRate",
    "CurvePoint",
    "ExtremePairs",
    "FlatAreas",
    "ImageQuality",
    "JointUse",
    "MissedThreshold",
    "PositionUse",
    "Quality",
    "Report",
    "ReportFiles",
    "ReportOptions",
    "ReportPlan",
    "ReportSection",
    "ReportSubject",
    "SlotReport",
    "Stability",
    "TokenChange",
    "block_deviations",
    "build_reports",
    "codebook_picture",
    "codebook_reports",
    "figure_lines",
    "flat_blocks",
    "measure_flat_areas",
    "measure_quality",
    "measure_stability",
    "missed_thresholds",
    "plan_reports",
    "report_page",
    "report_remarks",
    "report_rows",
    "reports_to_csv",
    "reports_to_json",
    "shown_definitions",
    "usage_report",
    "write_reports",
]
