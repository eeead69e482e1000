"""Clusters as targets: what knows kubectl, helm and kind.

A roll-out is `profiles` (for `cli`): `rollout` for a proof of concept, `production` and `removal`
for one to stay, `condition` for how it is. An evaluation is `target`: `node_pod`, where the node
side runs, `services` and `daemonsets`, what is measured there.
"""
