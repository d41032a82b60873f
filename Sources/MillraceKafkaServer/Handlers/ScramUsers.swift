// ScramUsers: DescribeUserScramCredentials and AlterUserScramCredentials. Source: KIP-554.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceSecurity

extension KafkaConnection {
  func handleDescribeUserScramCredentials(
    _ request: DescribeUserScramCredentialsRequest, _ context: RequestContext<DescribeUserScramCredentialsResponse>
  ) {
    typealias Answer = DescribeUserScramCredentialsResponse.DescribeUserScramCredentialsResult
    guard client.allowsCluster(.describe) else {
      return context.answer(
        DescribeUserScramCredentialsResponse(
          errorCode: .clusterAuthorizationFailed, errorMessage: "users may not be described"))
    }
    let asked = request.users?.map(\.name) ?? []
    let all = broker.users.filter { !$0.user.credentials.isEmpty }.map(\.name)
    var counts: [String: Int] = [:]
    for name in asked { counts[name, default: 0] += 1 }
    let names = asked.isEmpty ? all : asked.firstOfEach { $0 }
    context.answer(
      DescribeUserScramCredentialsResponse(
        errorMessage: nil,
        results: names.map { name in
          if counts[name, default: 0] > 1 {
            return Answer(
              user: name, errorCode: .duplicateResource, errorMessage: "the user stands in the request more than once")
          }
          guard let credentials = broker.user(name)?.credentials, !credentials.isEmpty else {
            return Answer(
              user: name, errorCode: .resourceNotFound, errorMessage: "there is no such user with a SCRAM credential")
          }
          return Answer(
            user: name, errorMessage: nil,
            credentialInfos: credentials.sorted { $0.key.rawValue < $1.key.rawValue }.map {
              .init(mechanism: Int8($0.key.rawValue), iterations: Int32($0.value.iterations))
            })
        }))
  }

  func handleAlterUserScramCredentials(
    _ request: AlterUserScramCredentialsRequest, _ context: RequestContext<AlterUserScramCredentialsResponse>
  ) {
    typealias Answer = AlterUserScramCredentialsResponse.AlterUserScramCredentialsResult
    let names = (request.deletions.map(\.name) + request.upsertions.map(\.name)).firstOfEach { $0 }
    guard client.allowsCluster(.alter) else {
      return context.answer(
        AlterUserScramCredentialsResponse(
          results: names.map {
            Answer(user: $0, errorCode: .clusterAuthorizationFailed, errorMessage: "users may not be altered")
          }))
    }
    var changes: [String: [CredentialChange]] = [:]
    var problems: [String: (code: KafkaErrorCode, reason: String)] = [:]
    var seen: Set<[String]> = []
    /// The mechanism, unless something is wrong with what is asked.
    func take(_ name: String, _ number: Int8) -> ScramMechanism? {
      guard number >= 0, let mechanism = ScramMechanism(rawValue: UInt8(number)) else {
        problems[name] = (.unsupportedSaslMechanism, "there is no SCRAM mechanism \(number)")
        return nil
      }
      guard seen.insert([name, mechanism.name]).inserted else {
        problems[name] = (.duplicateResource, "\(mechanism.name) stands in the request more than once")
        return nil
      }
      return mechanism
    }
    for deletion in request.deletions {
      guard let mechanism = take(deletion.name, deletion.mechanism) else { continue }
      guard broker.user(deletion.name)?.credentials[mechanism] != nil else {
        problems[deletion.name] = (.resourceNotFound, "the user has no \(mechanism.name) credential")
        continue
      }
      changes[deletion.name, default: []].append(.remove(mechanism))
    }
    for upsertion in request.upsertions {
      guard let mechanism = take(upsertion.name, upsertion.mechanism) else { continue }
      do {
        try broker.checkNewUser(upsertion.name)
        changes[upsertion.name, default: []].append(
          .set(
            try ScramCredential(
              saltedPassword: upsertion.saltedPassword.withBuffer { Secret($0) }, mechanism: mechanism,
              iterations: Int(upsertion.iterations), salt: upsertion.salt.withBuffer { Array($0) })))
      } catch let error as BrokerError {
        problems[upsertion.name] = (.unacceptableCredential, error.reason)
      } catch let error as AuthenticationError {
        problems[upsertion.name] = (.unacceptableCredential, error.publicText)
      } catch {
        preconditionFailure("an error of another type: \(error)")
      }
    }
    let gathering = Gathering<Answer>(names.count) { context.answer(AlterUserScramCredentialsResponse(results: $0)) }
    for (index, name) in names.enumerated() {
      // A user's changes are made together or not at all.
      if let (code, reason) = problems[name] {
        gathering.put(index, Answer(user: name, errorCode: code, errorMessage: reason))
        continue
      }
      broker.changeCredentials(of: name, changes[name] ?? []) { error in
        gathering.put(
          index,
          Answer(user: name, errorCode: error.map { KafkaErrorCode($0) } ?? .none, errorMessage: error?.reason))
      }
    }
  }
}
