"""The colours of the timeline, on light and on dark pages."""

STYLE = """
text{font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}
.title{font-size:21px;font-weight:600}.small{font-size:12px}
path{fill:none}.ok,.retried,.failed{stroke-linecap:round}
.paper{fill:#ffffff;stroke:#d1d9e0}.faint{fill:#59636e}.grid{stroke:#d1d9e0}.axis{stroke:#59636e}
.even{fill:#ffffff}.odd{fill:#f6f8fa}.fault{fill:#fde8d4}.outage{fill:#454c54}
.deadline{stroke:#1f2328;stroke-width:1.2;stroke-dasharray:7 5}
.ok{stroke:#2f6fb7;stroke-width:2.4;stroke-opacity:.65}.retried{stroke:#d97900;stroke-width:3.6}
.failed{stroke:#c4122f;stroke-width:4.6}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.paper{fill:#0d1117;stroke:#3d444d}.faint{fill:#9198a1}.grid{stroke:#30363d}.axis{stroke:#9198a1}
.even{fill:#0d1117}.odd{fill:#151b23}.fault{fill:#402a16}.outage{fill:#b7bdc8}
.deadline{stroke:#e6edf3}.ok{stroke:#6cb0f5;stroke-opacity:.9}.retried{stroke:#ffb03b}.failed{stroke:#ff6b78}
}
"""
"""A dark page is known by the preference of the reader; the drawing has its own background in both cases."""
