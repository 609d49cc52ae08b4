"""Posts in the admin: to look at, and to take away what should not be there."""

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from config.admin import ShopAdmin, row_link
from posts.models import Post


@admin.register(Post)
class PostAdmin(ShopAdmin):
    list_display = ["title", "author", "created_at"]
    list_filter = ["created_at"]
    list_select_related = ["author"]
    search_fields = ["author__username", "title"]
    search_ids = ["pk"]
    search_help_text = "The beginning of a post's id, its author's name, or words of its title."
    fields = ["id", "written_by", "title", "body", "created_at"]
    # A post is deleted on its page, where that and the log's line of it commit together: Django's action for many
    # does not see to it.
    actions = None

    @admin.display(description="author")
    def written_by(self, post: Post) -> SafeString:
        return row_link("accounts_user", post.author_id, post.author)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Post | None = None) -> bool:
        return False
