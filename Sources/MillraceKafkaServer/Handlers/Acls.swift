// Acls: DescribeAcls, CreateAcls and DeleteAcls: rules of access as Kafka's tools see them.
//
// Of rules about resources that Kafka does not have (queues, exchanges, virtual hosts) is spoken only where such a kind is asked
// for by its number, as `millrace acl` does: Kafka's tools know no words for them.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceSecurity

/// Numbers of Kafka's enumerations. Source: Kafka, `PatternType`, `AclPermissionType`; 1 is ANY in all of them.
private enum AclNumber {
  static let any: Int8 = 1
  static let match: Int8 = 2
  static let literal: Int8 = 3
  static let prefixed: Int8 = 4
  static let deny: Int8 = 2
  static let allow: Int8 = 3
}

extension KafkaConnection {
  func handleDescribeAcls(_ request: DescribeAclsRequest, _ context: RequestContext<DescribeAclsResponse>) {
    guard client.allowsCluster(.describe) else {
      return context.answer(
        DescribeAclsResponse(errorCode: .clusterAuthorizationFailed, errorMessage: "rules may not be described"))
    }
    let filter: AccessRuleFilter?
    do throws(BrokerError) {
      filter = try AccessRuleFilter(
        resource: request.resourceTypeFilter, name: request.resourceNameFilter, pattern: request.patternTypeFilter,
        principal: request.principalFilter, host: request.hostFilter, operation: request.operation,
        permission: request.permissionType)
    } catch {
      return context.answer(DescribeAclsResponse(errorCode: KafkaErrorCode(error), errorMessage: error.reason))
    }
    var response = DescribeAclsResponse(errorMessage: nil)
    var found: [(pattern: ResourcePattern, rules: [AccessRule])] = []
    for rule in rules(filter) {
      if found.last?.pattern == rule.pattern {
        found[found.count - 1].rules.append(rule)
      } else {
        found.append((rule.pattern, [rule]))
      }
    }
    response.resources = found.map { pattern, rules in
      .init(
        resourceType: Int8(pattern.kind.rawValue), resourceName: pattern.name, patternType: pattern.number,
        acls: rules.map {
          .init(
            principal: $0.principal.description, host: $0.host, operation: Int8($0.operation.rawValue),
            permissionType: $0.permission)
        })
    }
    context.answer(response)
  }

  func handleCreateAcls(_ request: CreateAclsRequest, _ context: RequestContext<CreateAclsResponse>) {
    typealias Answer = CreateAclsResponse.AclCreationResult
    guard client.allowsCluster(.alter) else {
      return context.answer(
        CreateAclsResponse(
          results: request.creations.map { _ in
            Answer(errorCode: .clusterAuthorizationFailed, errorMessage: "rules may not be altered")
          }))
    }
    var rules: [AccessRule] = []
    let problems = request.creations.map { creation -> BrokerError? in
      do throws(BrokerError) {
        let rule = try AccessRule(creation)
        try broker.checkRule(rule)
        rules.append(rule)
        return nil
      } catch {
        return error
      }
    }
    broker.changeRules(adding: rules) { failure in
      context.answer(
        CreateAclsResponse(
          results: problems.map { problem in
            let error = problem ?? failure
            return Answer(errorCode: error.map { KafkaErrorCode($0) } ?? .none, errorMessage: error?.reason)
          }))
    }
  }

  func handleDeleteAcls(_ request: DeleteAclsRequest, _ context: RequestContext<DeleteAclsResponse>) {
    typealias Answer = DeleteAclsResponse.DeleteAclsFilterResult
    guard client.allowsCluster(.alter) else {
      return context.answer(
        DeleteAclsResponse(
          filterResults: request.filters.map { _ in
            Answer(errorCode: .clusterAuthorizationFailed, errorMessage: "rules may not be altered")
          }))
    }
    var gone: [AccessRule] = []
    let results = request.filters.map { one -> Answer in
      do throws(BrokerError) {
        let filter = try AccessRuleFilter(
          resource: one.resourceTypeFilter, name: one.resourceNameFilter, pattern: one.patternTypeFilter,
          principal: one.principalFilter, host: one.hostFilter, operation: one.operation,
          permission: one.permissionType)
        let matching = rules(filter)
        // Many filters, each of which means all rules, would make a large answer of a small request.
        guard gone.count + matching.count <= Broker.mostRules else {
          throw BrokerError(.policyViolation, "the filters of the request mean too many rules")
        }
        gone += matching
        return Answer(
          errorMessage: nil,
          matchingAcls: matching.map {
            .init(
              errorMessage: nil, resourceType: Int8($0.pattern.kind.rawValue), resourceName: $0.pattern.name,
              patternType: $0.pattern.number, principal: $0.principal.description, host: $0.host,
              operation: Int8($0.operation.rawValue), permissionType: $0.permission)
          })
      } catch {
        return Answer(errorCode: KafkaErrorCode(error), errorMessage: error.reason)
      }
    }
    broker.changeRules(adding: [], removing: Array(Set(gone)).sorted()) { failure in
      guard let failure else { return context.answer(DeleteAclsResponse(filterResults: results)) }
      context.answer(
        DeleteAclsResponse(
          filterResults: results.map { result in
            result.matchingAcls.isEmpty
              ? result : Answer(errorCode: KafkaErrorCode(failure), errorMessage: failure.reason)
          }))
    }
  }
}

extension KafkaConnection {
  /// What a filter means; of all kinds, only those that Kafka has.
  private func rules(_ filter: AccessRuleFilter?) -> [AccessRule] {
    guard let filter else { return [] }
    let found = broker.rules(filter)
    return filter.kind == nil ? found.filter { $0.pattern.kind.isKafkas } : found
  }
}

extension ResourceKind {
  /// Whether Kafka has resources of this kind.
  fileprivate var isKafkas: Bool { rawValue <= ResourceKind.user.rawValue }

  fileprivate init(number: Int8) throws(BrokerError) {
    guard number >= 0, let kind = ResourceKind(rawValue: UInt8(number)) else {
      throw BrokerError(.invalidRequest, "there are no resources of type \(number)")
    }
    self = kind
  }
}

extension AccessOperation {
  fileprivate init(number: Int8) throws(BrokerError) {
    guard number >= 0, let operation = AccessOperation(rawValue: UInt8(number)) else {
      throw BrokerError(.invalidRequest, "there is no operation \(number)")
    }
    self = operation
  }
}

extension ResourcePattern {
  fileprivate var number: Int8 { isPrefix ? AclNumber.prefixed : AclNumber.literal }
}

extension AccessRule {
  fileprivate var permission: Int8 { isAllowed ? AclNumber.allow : AclNumber.deny }

  fileprivate init(_ creation: CreateAclsRequest.AclCreation) throws(BrokerError) {
    guard [AclNumber.literal, AclNumber.prefixed].contains(creation.resourcePatternType) else {
      throw BrokerError(
        .invalidRequest, "a rule's pattern is literal (3) or prefixed (4), not \(creation.resourcePatternType)")
    }
    guard [AclNumber.deny, AclNumber.allow].contains(creation.permissionType) else {
      throw BrokerError(.invalidRequest, "a rule denies (2) or allows (3), not \(creation.permissionType)")
    }
    guard let principal = Principal(notation: creation.principal) else {
      throw BrokerError(.invalidRequest, "a principal is written User:NAME, not \"\(creation.principal)\"")
    }
    self.init(
      ResourcePattern(
        try ResourceKind(number: creation.resourceType), creation.resourceName,
        isPrefix: creation.resourcePatternType == AclNumber.prefixed),
      principal, host: creation.host, try AccessOperation(number: creation.operation),
      isAllowed: creation.permissionType == AclNumber.allow)
  }
}

extension AccessRuleFilter {
  /// A filter as Kafka's calls have it; nil when it can mean no rule.
  fileprivate init?(
    resource: Int8, name: String?, pattern: Int8, principal: String?, host: String?, operation: Int8, permission: Int8
  ) throws(BrokerError) {
    self.init()
    if resource != AclNumber.any { kind = try ResourceKind(number: resource) }
    switch pattern {
    case AclNumber.any: self.name = name.map { .either($0) } ?? .any
    case AclNumber.match: self.name = name.map { .fitting($0) } ?? .any
    case AclNumber.literal: self.name = .literal(name)
    case AclNumber.prefixed: self.name = .prefix(name)
    default: throw BrokerError(.invalidRequest, "there is no pattern type \(pattern)")
    }
    if operation != AclNumber.any { self.operation = try AccessOperation(number: operation) }
    switch permission {
    case AclNumber.any: break
    case AclNumber.deny: isAllowed = false
    case AclNumber.allow: isAllowed = true
    default: throw BrokerError(.invalidRequest, "there is no permission type \(permission)")
    }
    self.host = host
    if let principal {
      // Rules are about users only.
      guard let user = Principal(notation: principal) else { return nil }
      self.principal = user
    }
  }
}
