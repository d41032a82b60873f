// Quotas: DescribeClientQuotas and AlterClientQuotas.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol

extension KafkaConnection {
  private static let entityTypes = ["user", "client-id", "ip"]

  /// Source: KIP-546.
  func handleDescribeClientQuotas(
    _ request: DescribeClientQuotasRequest, _ context: RequestContext<DescribeClientQuotasResponse>
  ) {
    func refuse(_ code: KafkaErrorCode, _ reason: String) {
      context.answer(DescribeClientQuotasResponse(errorCode: code, errorMessage: reason, entries: nil))
    }
    guard client.allowsCluster(.describeConfigs) else {
      return refuse(.clusterAuthorizationFailed, "quotas may not be described")
    }
    var filters: [String: DescribeClientQuotasRequest.ComponentData] = [:]
    for component in request.components {
      let type = component.entityType
      guard KafkaConnection.entityTypes.contains(type) else {
        return refuse(.unsupportedVersion, "quotas have no entities of type \"\(type)\"")
      }
      guard (0...2).contains(component.matchType), component.matchType != 0 || component.match != nil else {
        return refuse(.invalidRequest, "entities of type \(type) cannot be matched as \(component.matchType)")
      }
      guard filters.updateValue(component, forKey: type) == nil else {
        return refuse(.invalidRequest, "entities of type \(type) stand in the request more than once")
      }
    }
    if let ip = filters["ip"], filters.count > 1 {
      return refuse(.invalidRequest, "an ip (\(ip.match ?? "")) cannot stand with a user or client-id")
    }
    var response = DescribeClientQuotasResponse(errorMessage: nil)
    var entries: [DescribeClientQuotasResponse.EntryData] = []
    for (entity, limits) in broker.quotaLimits {
      let parts = entity.parts
      let isWanted = KafkaConnection.entityTypes.allSatisfy { type in
        guard let filter = filters[type] else { return !request.strict || parts[type] == nil }
        guard let part = parts[type] else { return false }
        switch filter.matchType {
        case 0: return part == .named(filter.match ?? "")
        case 1: return part == .standard
        default: return true
        }
      }
      guard isWanted else { continue }
      entries.append(
        .init(
          entity: KafkaConnection.entityTypes.compactMap { type in
            parts[type].map { .init(entityType: type, entityName: $0.name) }
          }, values: limits.sorted { $0.key < $1.key }.map { .init(key: $0.key, value: $0.value) }))
    }
    response.entries = entries
    context.answer(response)
  }

  func handleAlterClientQuotas(
    _ request: AlterClientQuotasRequest, _ context: RequestContext<AlterClientQuotasResponse>
  ) {
    let gathering = Gathering<BrokerError?>(request.entries.count) { answers in
      context.answer(
        AlterClientQuotasResponse(
          entries: zip(request.entries, answers).map { entry, error in
            .init(
              errorCode: error.map { KafkaErrorCode($0) } ?? .none, errorMessage: error?.reason,
              entity: entry.entity.map { .init(entityType: $0.entityType, entityName: $0.entityName) })
          }))
    }
    guard client.allowsCluster(.alterConfigs) else {
      let denied = BrokerError(.denied(.cluster), "quotas may not be altered")
      for index in request.entries.indices { gathering.put(index, denied) }
      return
    }
    var seen: Set<QuotaEntity> = []
    for (index, entry) in request.entries.enumerated() {
      do throws(BrokerError) {
        let entity = try QuotaEntity(entry.entity)
        guard seen.insert(entity).inserted else {
          throw BrokerError(.invalidRequest, "\(entity) stands in the request more than once")
        }
        var limits: [String: Double?] = [:]
        for change in entry.ops {
          guard limits.updateValue(change.remove ? nil : change.value, forKey: change.key) == nil else {
            throw BrokerError(.invalidRequest, "\(change.key) of \(entity) stands in the request more than once")
          }
        }
        try broker.checkQuotas(entity, limits)
        if request.validateOnly {
          gathering.put(index, nil)
          continue
        }
        broker.setQuotas(entity, limits) { gathering.put(index, $0) }
      } catch {
        gathering.put(index, error)
      }
    }
  }
}

extension QuotaEntity {
  /// An entity as a request names it.
  fileprivate init(_ parts: [AlterClientQuotasRequest.EntityData]) throws(BrokerError) {
    self.init()
    for part in parts {
      let value: Part = part.entityName.map { .named($0) } ?? .standard
      let held: Part
      switch part.entityType {
      case "user":
        held = user
        user = value
      case "client-id":
        held = clientID
        clientID = value
      case "ip":
        held = address
        address = value
      default: throw BrokerError(.invalidRequest, "quotas have no entities of type \"\(part.entityType)\"")
      }
      guard held == .any else {
        throw BrokerError(.invalidRequest, "\(part.entityType) stands in an entity more than once")
      }
    }
  }

  /// The parts that are looked at, by Kafka's names for them.
  fileprivate var parts: [String: Part] {
    ["user": user, "client-id": clientID, "ip": address].filter { $0.value != .any }
  }
}

extension QuotaEntity.Part {
  /// The name; nil stands for everybody else.
  fileprivate var name: String? {
    if case .named(let name) = self { return name }
    return nil
  }
}
