"""Raw releases to harmonised manifests: findings, label spaces, selections; never imports torch."""
