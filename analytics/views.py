"""What analytics counts, over HTTP, for staff. Sales and products in JSON, or in CSV where that is accepted."""

from collections.abc import Mapping, Sequence
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiTypes, extend_schema
from rest_framework.permissions import IsAdminUser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from analytics import reports, serializers
from analytics.reports import PRODUCT_COLUMNS, SALES_COLUMNS, as_csv


class CSVRenderer(BaseRenderer):
    """Writes the results of a report, in the columns of its view."""

    media_type = "text/csv"
    format = "csv"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> str:
        assert renderer_context is not None
        return as_csv(renderer_context["view"].columns, data)


def json_or_csv(json: type, *, columns: Sequence[str], row: dict[str, Any]) -> dict[str, Any]:
    """Return what extend_schema is told of an answer that is either, with an example of it in both."""
    report = {"currency": "USD", "results": [row]}
    return {
        "responses": {(200, JSONRenderer.media_type): json, (200, CSVRenderer.media_type): OpenApiTypes.STR},
        "examples": [
            OpenApiExample("Example", report, media_type=JSONRenderer.media_type),
            OpenApiExample("Example", as_csv(columns, report), media_type=CSVRenderer.media_type),
        ],
    }


class Sales(APIView):
    permission_classes = [IsAdminUser]
    renderer_classes = [JSONRenderer, CSVRenderer]
    # What there is to tell by OPTIONS is no report, and no CSV.
    metadata_class = None
    columns = SALES_COLUMNS

    @extend_schema(
        parameters=[serializers.SalesQuery],
        **json_or_csv(
            serializers.SalesOut,
            columns=SALES_COLUMNS,
            row={"bucket": "2026-11-21T00:00:00Z", "orders": 3, "units": 7, "revenue": "87.50", "refunds": "12.50"},
        ),
    )
    def get(self, request: Request) -> Response:
        """Read what was sold, by the hour or day of UTC, those without sales too (staff)."""
        return Response(serializers.SalesOut(reports.sales(**serializers.SalesQuery.read(request))).data)


class Products(APIView):
    permission_classes = [IsAdminUser]
    renderer_classes = [JSONRenderer, CSVRenderer]
    # What there is to tell by OPTIONS is no report, and no CSV.
    metadata_class = None
    columns = PRODUCT_COLUMNS

    @extend_schema(
        parameters=[serializers.ProductsQuery],
        **json_or_csv(
            serializers.ProductsOut, columns=PRODUCT_COLUMNS, row={"sku": "A001", "units": 7, "revenue": "87.50"}
        ),
    )
    def get(self, request: Request) -> Response:
        """List the products that brought most, at their prices (staff)."""
        return Response(serializers.ProductsOut(reports.products(**serializers.ProductsQuery.read(request))).data)


class Funnel(APIView):
    permission_classes = [IsAdminUser]

    @extend_schema(parameters=[serializers.SpanQuery], responses=serializers.FunnelOut)
    def get(self, request: Request) -> Response:
        """Read how far the orders got that were placed in a time, and how soon (staff)."""
        return Response(serializers.FunnelOut(reports.funnel(**serializers.SpanQuery.read(request))).data)
