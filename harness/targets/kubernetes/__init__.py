"""Clusters as targets: what knows kubectl, helm and kind; `cli` calls `rollout`."""
