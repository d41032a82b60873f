// EmbeddedBroker+Access: users and rules of those who come in through a listener that asks who they are.

import MillraceBroker
import MillraceMetadata
import MillraceSecurity

extension EmbeddedBroker {
  /// Makes a user who logs in with a password, or gives one a new password; durable on return, and counts for new logins.
  ///
  /// Of the password what SCRAM-SHA-256 and SCRAM-SHA-512 need is kept, salted and hashed; PLAIN is verified against the same. The same
  /// users log in over all protocols. To hash takes some 20 ms, on a thread of its own.
  /// - Parameters:
  ///   - name: 1 to 255 printable ASCII characters.
  ///   - isAdministrator: whether the user is allowed everything, without rules. Nil leaves that as it is, so that a new password
  ///     takes nothing away; a new user is none. Other tags that clients have given the user stay in any case.
  /// - Throws: `.invalidArgument` for a name or password that nobody can have, `.storage`, `.closed`.
  public func setUser(
    _ name: String, password: String, isAdministrator: Bool? = nil
  ) async throws(MillraceError) {
    let secret = Secret(password)
    let credentials = try await EmbeddedBroker.onThread("millrace-user") {
      Result { () throws(AuthenticationError) in
        var all: [ScramCredential] = []
        for mechanism in ScramMechanism.allCases {
          all.append(try ScramCredential(password: secret, mechanism: mechanism))
        }
        return all
      }.mapError { MillraceError(.invalidArgument, "the password of \(name) cannot be used: \($0.publicText)") }
    }.get()
    try await ask { (broker, answer: Answer<Void>) in
      guard broker.isOpen else { return answer.give(.failure(.closed)) }
      var tags = broker.user(name)?.tags ?? []
      if let isAdministrator {
        tags.removeAll { $0 == User.administratorTag }
        if isAdministrator { tags.append(User.administratorTag) }
      }
      do throws(BrokerError) {
        try broker.setUser(name, tags: tags, credentials: credentials, isReplacing: true) { answer.give($0) }
      } catch {
        answer.give(.failure(MillraceError(error)))
      }
    }
  }

  /// Removes a user: nobody logs in as that any more, and whoever has is allowed nothing. Rules about the user stay. Durable on
  /// return; nothing happens when there is no such user.
  /// - Throws: `.storage`, `.closed`.
  public func removeUser(_ name: String) async throws(MillraceError) {
    try await ask { (broker, answer: Answer<Void>) in
      guard broker.isOpen else { return answer.give(.failure(.closed)) }
      guard broker.user(name) != nil else { return answer.give(.success(())) }
      broker.removeUser(name) { error in answer.give(error) }
    }
  }

  /// Adds rules about what clients may and must not do, all or none; durable on return. They count for clients that are
  /// connected, too; those that are there already stay.
  /// - Throws: `.invalidArgument` for a rule that makes no sense, `.storage`, `.closed`.
  public func addRules(_ rules: [AccessRule]) async throws(MillraceError) {
    try await ask { (broker, answer: Answer<Void>) in
      guard broker.isOpen else { return answer.give(.failure(.closed)) }
      do throws(BrokerError) {
        for rule in rules { try broker.checkRule(rule) }
      } catch {
        return answer.give(.failure(MillraceError(error)))
      }
      broker.changeRules(adding: rules) { error in answer.give(error) }
    }
  }

  /// Removes rules that are exactly like these; durable on return.
  /// - Throws: `.storage`, `.closed`.
  public func removeRules(_ rules: [AccessRule]) async throws(MillraceError) {
    try await ask { (broker, answer: Answer<Void>) in
      guard broker.isOpen else { return answer.give(.failure(.closed)) }
      broker.changeRules(adding: [], removing: rules) { error in answer.give(error) }
    }
  }

  /// All rules, in an order that is the same in every run.
  /// - Throws: `.closed`.
  public func rules() async throws(MillraceError) -> [AccessRule] {
    try await ask { broker, answer in
      answer.give(broker.isOpen ? .success(broker.rules()) : .failure(.closed))
    }
  }
}

extension Answer<Void> {
  /// Done, unless there is an error.
  fileprivate func give(_ error: BrokerError?) {
    give(error.map { .failure(MillraceError($0)) } ?? .success(()))
  }
}
