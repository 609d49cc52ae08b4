"""What manage.py benchmark_coupons does: users who all ask for a coupon at once, by each of the queues."""
