"""What Orderbox and its outbox cost, beside baselines of the same run. Run with: make bench

Nothing here passes or fails by a time: only ratios between rows of one run are compared, and the runs of what is
compared take turns. No app imports this package.
"""
