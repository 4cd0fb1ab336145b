"""Recurrent pixel embedding for instance grouping (Kong and Fowlkes, CVPR 2018).

Reading order: structures, sphere, grouping, loss, network, segment, task, run.
"""
