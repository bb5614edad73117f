"""The admin of an event bus, as a router to mount: dead letters, replay, statistics, over HTTP.

from eventbus_routes import Principal, admin_router, bearer_tokens

admin = admin_router(bus, access=bearer_tokens({token: Principal("ann", role="operator")}))
app = Starlette(routes=[Mount("/admin/events", app=admin)], lifespan=bus.lifespan)
"""

from eventbus_routes.access import PERMISSIONS_OF, AccessPolicy, Permission, Principal, Role
from eventbus_routes.bearer import BearerTokens, bearer_tokens
from eventbus_routes.router import admin_router

__all__ = [
    "PERMISSIONS_OF",
    "AccessPolicy",
    "BearerTokens",
    "Permission",
    "Principal",
    "Role",
    "admin_router",
    "bearer_tokens",
]
