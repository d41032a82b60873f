// KafkaClient+Security: users and rules of access, asked for and changed by Kafka's calls.

import MillraceBase
import MillraceKafkaProtocol
import MillraceSecurity

extension KafkaClient {
  // MARK: Users

  /// A user with a password: what is known of how it is kept.
  struct ClientUser {
    let name: String
    /// Mechanisms and their iterations, in order.
    let credentials: [(mechanism: String, iterations: Int32)]
  }

  /// All users with passwords.
  func users() throws(ClientError) -> [ClientUser] {
    let answer = try call(DescribeUserScramCredentialsRequest(users: nil))
    guard answer.errorCode == .none else {
      throw ClientError.refused(answer.errorCode, "cannot list users", answer.errorMessage)
    }
    return answer.results.map { result in
      ClientUser(
        name: result.user,
        credentials: result.credentialInfos.map { info in
          (ScramMechanism(rawValue: UInt8(clamping: info.mechanism))?.name ?? "\(info.mechanism)", info.iterations)
        })
    }
  }

  /// Gives a user a password, for all mechanisms; makes the user when there is none. The password does not leave this program.
  func setPassword(_ password: Secret, of user: String) throws(ClientError) {
    var upsertions: [AlterUserScramCredentialsRequest.ScramCredentialUpsertion] = []
    for mechanism in ScramMechanism.allCases {
      let salt = Secret.random(count: 24).copy
      do throws(AuthenticationError) {
        let salted = try ScramCredential.salted(password, mechanism: mechanism, salt: salt)
        upsertions.append(
          .init(
            name: user, mechanism: Int8(mechanism.rawValue), iterations: Int32(ScramCredential.defaultIterations),
            salt: Bytes(salt), saltedPassword: Bytes(salted.copy)))
      } catch {
        throw ClientError(.refused(.unacceptableCredential), error.publicText)
      }
    }
    try alter(AlterUserScramCredentialsRequest(upsertions: upsertions), "cannot set the password of \(user)")
  }

  /// Takes all passwords of a user away.
  func deleteUser(_ name: String) throws(ClientError) {
    let found = try call(DescribeUserScramCredentialsRequest(users: [.init(name: name)]))
    guard found.errorCode == .none, let result = found.results.first, result.errorCode == .none else {
      let result = found.results.first
      throw ClientError.refused(
        found.errorCode == .none ? result?.errorCode ?? .resourceNotFound : found.errorCode,
        "cannot delete user \(name)", found.errorMessage ?? result?.errorMessage)
    }
    let deletions = result.credentialInfos.map {
      AlterUserScramCredentialsRequest.ScramCredentialDeletion(name: name, mechanism: $0.mechanism)
    }
    try alter(AlterUserScramCredentialsRequest(deletions: deletions), "cannot delete user \(name)")
  }

  private func alter(_ request: AlterUserScramCredentialsRequest, _ what: String) throws(ClientError) {
    for result in try call(request).results where result.errorCode != .none {
      throw ClientError.refused(result.errorCode, what, result.errorMessage)
    }
  }

  // MARK: Rules

  /// The rules about resources of the kinds given, in order.
  func rules(about kinds: [ResourceKind]) throws(ClientError) -> [AccessRule] {
    var found: [AccessRule] = []
    for kind in kinds {
      let answer = try call(
        DescribeAclsRequest(
          resourceTypeFilter: Int8(kind.rawValue), resourceNameFilter: nil, patternTypeFilter: 1, principalFilter: nil,
          hostFilter: nil, operation: 1, permissionType: 1))
      guard answer.errorCode == .none else {
        throw ClientError.refused(answer.errorCode, "cannot list rules", answer.errorMessage)
      }
      for resource in answer.resources {
        for acl in resource.acls {
          guard let principal = Principal(notation: acl.principal),
            let operation = AccessOperation(rawValue: UInt8(clamping: acl.operation))
          else { throw ClientError(.malformed, "a rule of \(address) that this program does not know") }
          found.append(
            AccessRule(
              ResourcePattern(kind, resource.resourceName, isPrefix: resource.patternType == 4), principal,
              host: acl.host, operation, isAllowed: acl.permissionType == 3))
        }
      }
    }
    return found
  }

  /// Adds rules.
  func add(_ rules: [AccessRule]) throws(ClientError) {
    let answer = try call(
      CreateAclsRequest(
        creations: rules.map {
          .init(
            resourceType: Int8($0.pattern.kind.rawValue), resourceName: $0.pattern.name,
            resourcePatternType: $0.pattern.isPrefix ? 4 : 3, principal: $0.principal.description, host: $0.host,
            operation: Int8($0.operation.rawValue), permissionType: $0.isAllowed ? 3 : 2)
        }))
    for (rule, result) in zip(rules, answer.results) where result.errorCode != .none {
      throw ClientError.refused(result.errorCode, "cannot add \"\(rule)\"", result.errorMessage)
    }
  }

  /// Removes rules; how many there were.
  func remove(_ rules: [AccessRule]) throws(ClientError) -> Int {
    let answer = try call(
      DeleteAclsRequest(
        filters: rules.map {
          .init(
            resourceTypeFilter: Int8($0.pattern.kind.rawValue), resourceNameFilter: $0.pattern.name,
            patternTypeFilter: $0.pattern.isPrefix ? 4 : 3, principalFilter: $0.principal.description,
            hostFilter: $0.host, operation: Int8($0.operation.rawValue), permissionType: $0.isAllowed ? 3 : 2)
        }))
    for (rule, result) in zip(rules, answer.filterResults) where result.errorCode != .none {
      throw ClientError.refused(result.errorCode, "cannot remove \"\(rule)\"", result.errorMessage)
    }
    return answer.filterResults.reduce(0) { $0 + $1.matchingAcls.count }
  }
}
