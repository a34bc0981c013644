"""suspects.html: what a radiologist would read again first, with pictures; one file, no scripts, no network."""

from collections.abc import Sequence
from html import escape

from trainer.report.page import card, heading, key_figures, page, paragraph, warnings_box
from trainer.suspects.found import Found
from trainer.suspects.listing import SIDES, Side, Suspect, rows_of
from trainer.suspects.opinions import Opinions
from trainer.suspects.thumbnails import Thumbnails

NUM_SHOWN = 12
"""Pictures of each finding and side; the tables have all that were asked for."""

EXPLAINED: dict[Side, str] = {
    "labelled, not seen": "Labelled present, least likely to {who}",
    "seen, not labelled": "Labelled absent, most likely to {who}",
}
"""Side of the list -> its heading. Nothing is said of what is seen: the likeliest of a rare finding may be unlikely."""

STYLE = """<style>
.suspects { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.6rem, 1fr)); gap: .9rem; margin: 0; }
.suspects figure { margin: 0; min-width: 0; }
.suspects img, .suspects .none { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: #000; }
.suspects img, .suspects .none { border-radius: 4px; }
.suspects .none { color: #bbb; font-size: .8rem; padding: 1rem; }
.suspects figcaption { font-size: .78rem; line-height: 1.35; margin-top: .3rem; overflow-wrap: anywhere; }
.suspects figcaption b { font-variant-numeric: tabular-nums; }
.suspects figcaption span { color: var(--muted); display: block; }
.suspects .wrong { color: var(--second); font-weight: 600; }
.suspects .right { color: var(--good); font-weight: 600; }
.jump { columns: 4 11rem; padding: 0; list-style: none; font-size: .92rem; }
</style>"""


def suspects_page(
    name: str,
    opinions: Opinions,
    suspects: Sequence[Suspect],
    *,
    findings: Sequence[str],
    found: Found | None,
    notes: Sequence[str],
    valid_mean_auroc: float | None = None,
) -> str:
    """Return the page.

    Args:
        name: of the run.
        opinions: whose they are, and the pack that the pictures come from.
        suspects: the list.
        findings: those of the list.
        found: how well wrong labels are found; None: nobody knows which are wrong.
        notes: what a reader must know.
        valid_mean_auroc: the run's best on validation: what its opinion may be worth.
    """
    thumbnails, who = Thumbnails(opinions.pack), f"the {opinions.source}"
    how = (
        "its memory, a running average over the epochs of training of what it predicted for each training image"
        if opinions.source == "memory"
        else "its model, which was trained on these very labels and has learned some of them by heart"
    )
    parts = [
        STYLE,
        paragraph("Suspected labels", "kicker"),
        heading(name, 1),
        paragraph(
            f"Training labels that the run contradicts most, a finding at a time: what to read again first. The run's "
            f"opinion is that of {how}, after {opinions.num_epochs} epochs.",
            "lead",
        ),
        key_figures(
            [
                (f"{len(opinions.sample_index_n):,}", "training images"),
                (f"{int(opinions.mask_nC.sum()):,}", "labels"),
                *([] if found is None else [(f"{found.wrong:,}", "of them wrong")]),
                *([] if valid_mean_auroc is None else [(f"{valid_mean_auroc:.3f}", "best mean AUROC on validation")]),
            ]
        ),
        warnings_box(list(notes)),
        paragraph(
            "The percentage below a picture is how likely the run takes the finding to be, moved so that its mean is "
            "the share of labels that say it is there. A suspicion is no verdict: it is worth no more than what the "
            "run has learned (on validation 0.5 is chance), and what is odd about a picture may be that it is rare.",
            "small",
        ),
        *([] if found is None else [heading("Wrong labels found"), _found_tables(found, findings)]),
        heading("Findings"),
        f'<ul class="jump">{"".join(f"<li>{_link(finding)}</li>" for finding in findings)}</ul>',
    ]
    for finding in findings:
        column = opinions.findings.index(finding)
        is_present_n, is_known_n = opinions.labels_nC[:, column], opinions.mask_nC[:, column]
        num_labels = {
            "labelled, not seen": int((is_present_n & is_known_n).sum()),
            "seen, not labelled": int((~is_present_n & is_known_n).sum()),
        }
        parts.append(f'<h2 id="{_anchor(finding)}">{escape(_readable(finding))}</h2>')
        for side in SIDES:
            rows = rows_of(suspects, finding, side)[:NUM_SHOWN]
            parts.append(heading(f"{EXPLAINED[side].format(who=who)}: {len(rows)} of {num_labels[side]:,}", 3))
            figures = "".join(_figure(row, thumbnails) for row in rows)
            parts.append(
                card(f'<div class="suspects">{figures}</div>') if rows else paragraph("No such label.", "small")
            )
    return page(f"{name} — suspected labels", "\n".join(parts))


def _figure(row: Suspect, thumbnails: Thumbnails) -> str:
    uri = thumbnails.uri(row.sample_index)
    picture = (
        f'<img src="{uri}" alt="{escape(row.image_id)}" loading="lazy">'
        if uri is not None
        else '<div class="none">cannot be decoded</div>'
    )
    verdict = {
        None: "",
        True: ' <span class="wrong">label wrong</span>',
        False: ' <span class="right">label right</span>',
    }
    return (
        f"<figure>{picture}<figcaption>{row.rank}. <b>{shown_share(row.probability)}</b>{verdict[row.is_wrong]}"
        f"<span>{escape(row.image_id)}</span></figcaption></figure>"
    )


def _found_tables(found: Found, findings: Sequence[str]) -> str:
    """Return what reading again finds: images at a time, and labels of one finding at a time."""
    head = "".join(f'<th class="number">{text}</th>' for text in ("read again", "wrong labels found", "at random"))
    rows = "".join(
        f'<tr><td>the {float(share):.0%} most suspicious images</td><td class="number">'
        f'{max(1, round(float(share) * found.images)):,}</td><td class="number">{number:,} of {found.wrong:,}</td>'
        f'<td class="number">{found.by_chance[share]:,.0f}</td></tr>'
        for share, number in found.found.items()
    )
    images = f"<table><tr><th></th>{head}</tr>{rows}</table>"
    shares = list(found.found)
    head = "".join(
        f'<th class="number">{text}</th>'
        for text in ("labels", "wrong", "AUROC", *(f"precision, first {float(share):.0%}" for share in shares))
    )
    rows = "".join(
        f'<tr><td>{escape(_readable(row.finding))}</td><td class="number">{row.labels:,}</td>'
        f'<td class="number">{row.wrong:,}</td><td class="number">{_shown(row.auroc)}</td>'
        + "".join(f'<td class="number">{_shown(row.precision[share])}</td>' for share in shares)
        + "</tr>"
        for row in found.findings
        if row.finding in findings
    )
    return card(images) + card(f"<table><tr><th>finding</th>{head}</tr>{rows}</table>")


def shown_share(share: float) -> str:
    """Return a probability in percent, with a digit behind the point where it is small or large."""
    return f"{share:.1%}" if min(share, 1 - share) < 0.095 else f"{share:.0%}"


def _shown(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _readable(finding: str) -> str:
    return finding.replace("_", " ")


def _anchor(finding: str) -> str:
    return finding.lower().replace(" ", "-")


def _link(finding: str) -> str:
    return f'<a href="#{_anchor(finding)}">{escape(_readable(finding))}</a>'
