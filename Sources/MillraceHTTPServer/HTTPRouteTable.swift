// HTTPRouteTable: everything that can be asked for. Dispatch, the OpenAPI document, docs/reference/http.md and the tests of
// permissions are made from it.

/// All routes.
public enum HTTPRouteTable {
  /// In the order of the reference.
  public static let all: [HTTPRoute] =
    SystemRoutes.all + TopicRoutes.all + RecordRoutes.all + QueueRoutes.all + ExchangeRoutes.all + GroupRoutes.all
    + JobRoutes.all + UserRoutes.all + SettingRoutes.all + DefinitionRoutes.all + ManagementRoutes.all
}
