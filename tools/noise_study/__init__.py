"""How much of what label noise costs does a loss get back, when every loss is tuned alike on noisy validation labels?

    python -m tools.noise_study tune        random trials of each method on tuning seeds; minutes a method
    python -m tools.noise_study seeds       the best trial of each on ten other seeds
    python -m tools.noise_study table       what they say, as Markdown

Set-up, methods, tables and what did not help: trainer/NOISE_STUDY.md.
"""
