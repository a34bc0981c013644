"""In what the methods of a comparison differ, and what they have in common, as tables of the page."""

from html import escape

from trainer.compare.plan import Plan
from trainer.report.page import card, heading, paragraph
from trainer.sections import Values


def settings_of_methods(plan: Plan) -> str:
    """Return the settings that each method and data set adds, as HTML."""
    rows = [("all runs", plan.base)]
    rows += [(f"data: {data.name}" if data.name else "data", data.settings) for data in plan.data if data.settings]
    rows += [(method.name, method.settings) for method in plan.methods]
    cells = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{escape(_shown(settings))}</code></td></tr>" for name, settings in rows
    )
    return "\n".join(
        [
            heading("Settings"),
            paragraph("What the comparison sets over the defaults; each run's config.json has every setting."),
            card(f"<table>{cells}</table>"),
        ]
    )


def _shown(settings: Values) -> str:
    shown = [f"{section}.{key}={_value(value)}" for section, keys in settings.items() for key, value in keys.items()]
    return "  ".join(shown) or "nothing"


def _value(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
