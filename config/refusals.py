"""What each refusal of a service is over HTTP. The exceptions stand beside the services that raise them."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from accounts import services as accounts
from config.problems import Problem, invalid
from coupons import services as coupons
from orders import services as orders
from payments import services as payments
from stock import services as stock

REFUSALS: dict[type[Exception], Callable[[Any], Problem]] = {
    accounts.Taken: lambda error: invalid({name: ["Somebody has this already."] for name in error.fields}, "taken"),
    accounts.InvalidCredentials: lambda _: Problem(
        401,
        "invalid_credentials",
        "No active user has this name and this password.",
        headers={"WWW-Authenticate": "Token"},
    ),
    accounts.WrongPassword: lambda _: invalid({"old_password": ["This is not your password."]}, "wrong_password"),
    accounts.FollowsThemself: lambda _: Problem(400, "follows_themself", "Nobody follows themselves."),
    stock.Changed: lambda _: Problem(412, "precondition_failed", "It has changed, and is not what If-Match names."),
    stock.DuplicateSku: lambda error: invalid({"sku": [f"{error.sku} is taken."]}, "duplicate_sku"),
    stock.UnknownSku: lambda error: invalid(
        {"items": [f"{sku} is no product that can be ordered." for sku in error.skus]}, "unknown_sku"
    ),
    orders.AlreadyCancelled: lambda _: Problem(409, "already_cancelled", "The order was cancelled before."),
    orders.CancelWindowClosed: lambda _: Problem(
        409, "cancel_window_closed", "The order was completed too long ago to be cancelled."
    ),
    payments.WrongCurrency: lambda _: Problem(
        409, "currency_mismatch", "The wallet holds another currency than the shop takes now."
    ),
    coupons.DuplicateCode: lambda error: invalid({"code": [f"{error.code} is taken."]}, "duplicate_code"),
    coupons.OutOfStock: lambda _: Problem(409, "out_of_stock", "All coupons of this code are gone."),
    coupons.DuplicateRequest: lambda _: Problem(
        409, "duplicate_request", "You have this coupon, or have asked for it and will be answered."
    ),
    coupons.UnknownCoupon: lambda error: invalid({"coupon_code": ["You have no such coupon."]}, "unknown_coupon"),
    coupons.BelowMinimumTotal: lambda error: invalid(
        {"coupon_code": [f"It can be spent on an order of {error.minimum_total:.2f} or more."]}, "below_minimum_total"
    ),
    coupons.CouponSpent: lambda _: Problem(409, "coupon_spent", "The coupon was spent on another order."),
    coupons.CouponDisabled: lambda _: Problem(409, "coupon_disabled", "The coupon cannot be spent at present."),
    coupons.CouponEnded: lambda _: Problem(409, "coupon_ended", "The coupon can be spent no longer."),
}

# One of each, for the schema.
EXAMPLES = (
    accounts.Taken({"username"}),
    accounts.InvalidCredentials(),
    accounts.WrongPassword(),
    accounts.FollowsThemself(),
    stock.Changed(),
    stock.DuplicateSku("A001"),
    stock.UnknownSku(["A009"]),
    orders.AlreadyCancelled(),
    orders.CancelWindowClosed(),
    payments.WrongCurrency(),
    coupons.DuplicateCode("WELCOME"),
    coupons.OutOfStock(),
    coupons.DuplicateRequest(),
    coupons.UnknownCoupon("WELCOME"),
    coupons.BelowMinimumTotal(Decimal("50.00")),
    coupons.CouponSpent(),
    coupons.CouponDisabled(),
    coupons.CouponEnded(),
)
SAMPLES = {problem.code: problem for problem in (REFUSALS[type(error)](error) for error in EXAMPLES)}
