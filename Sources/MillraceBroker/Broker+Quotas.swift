// Broker+Quotas: quotas checked, changed and shown.

import MillraceBase
import MillraceMetadata

extension Broker {
  /// Checks a change of quotas.
  ///
  /// - Throws: `.invalidRequest` for an entity that cannot have quotas, a name that is none or does not fit the entity,
  ///   and a value that is not above 0, or no whole number where one is needed. Source: Kafka, `ClientQuotaControlManager`.
  public func checkQuotas(_ entity: QuotaEntity, _ limits: [String: Double?]) throws(BrokerError) {
    let isAddress = entity.address != .any
    let isClient = entity.user != .any || entity.clientID != .any
    guard isAddress != isClient else {
      throw BrokerError(
        .invalidRequest,
        isAddress ? "an ip cannot stand with a user or client-id: \(entity)" : "the entity has no parts")
    }
    if case .named(let address) = entity.address, !Broker.isAddress(address) {
      throw BrokerError(.invalidRequest, "\"\(address)\" is no IP address")
    }
    for part in [entity.user, entity.clientID] where part == .named("") {
      throw BrokerError(.invalidRequest, "a user or client-id of a quota must not be empty")
    }
    for (name, value) in limits.sorted(by: { $0.key < $1.key }) {
      guard let limit = ClientQuotas.Limit(rawValue: name), (limit == .connections) == isAddress else {
        throw BrokerError(.invalidRequest, "\(entity) cannot have a quota named \"\(name)\"")
      }
      guard let value else { continue }
      guard value > 0, value.isFinite else {
        throw BrokerError(.invalidRequest, "\(name) must be above 0, not \(value)")
      }
      let isWhole = limit == .producerBytes || limit == .consumerBytes || limit == .connections
      guard !isWhole || (value == value.rounded() && value < 9.2e18) else {
        throw BrokerError(.invalidRequest, "\(name) must be a whole number, not \(value)")
      }
    }
  }

  static func isAddress(_ text: String) -> Bool {
    if text.contains(":") {
      return text.utf8.allSatisfy { byte in
        byte == UInt8(ascii: ":") || byte == UInt8(ascii: ".") || Character(UnicodeScalar(byte)).isHexDigit
      }
    }
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts.allSatisfy { UInt8($0) != nil }
  }

  /// Changes an entity's quotas; `completion` follows when that is durable. They count from the call on.
  /// - Parameter limits: new values by Kafka's names, nil for those to take away; checked by ``checkQuotas(_:_:)``.
  public func setQuotas(
    _ entity: QuotaEntity, _ limits: [String: Double?], completion: @escaping (BrokerError?) -> Void
  ) {
    if limits.isEmpty { return whenDurable(completion) }
    record(.quotasChanged(entity, limits: limits)) { [self] error in
      if error == nil {
        let changes = limits.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.map { "\($0)" } ?? "(none)")" }
        logger.log(
          .info, "broker", "quotas changed", ["entity": "\(entity)", "changes": changes.joined(separator: " ")])
      }
      completion(error)
    }
  }

  /// All limits that are set, by entity, in order.
  public var quotaLimits: [(entity: QuotaEntity, limits: [String: Double])] {
    metadata.quotas.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }
}
