"""Posts over HTTP: who has a token sees them all."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from config.api import user_id
from config.idempotency import idempotent
from posts import serializers, services
from posts.models import Post


class Posts(ListAPIView[Post]):
    serializer_class = serializers.PostOut
    filters = serializers.PostFilter
    # For the schema.
    queryset = Post.objects.none()

    def get_queryset(self) -> QuerySet[Post]:
        # As a dictionary, or what is empty would count as not given.
        wanted = self.filters(data=self.request.query_params.dict())
        wanted.is_valid(raise_exception=True)
        return Post.objects.with_authors().filter(**wanted.validated_data)

    def get(self, request: Request) -> Response:
        """List everybody's posts, or one author's, the newest first."""
        return super().get(request)

    @extend_schema(request=serializers.NewPost, responses={201: serializers.PostOut})
    @idempotent
    def post(self, request: Request) -> Response:
        """Write a post."""
        post = services.write(author_id=user_id(request), **serializers.NewPost.read(request))
        return Response(serializers.PostOut(post).data, status=201)


class OnePost(RetrieveAPIView[Post]):
    """Read a post."""

    serializer_class = serializers.PostOut
    queryset = Post.objects.with_authors()
