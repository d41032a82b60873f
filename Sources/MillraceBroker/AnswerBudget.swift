// AnswerBudget: the memory that answers of all connections, made or being made, may hold together.

/// What all connections' answers hold, so that many readers that do not read cannot hold more than one budget together.
///
/// A fetch may take a quarter of what is left: large answers while there is room, smaller ones the less there is, and
/// at the end still one batch each, so that nobody is shut out by those who do not read.
public struct AnswerBudget: Sendable {
  /// Bytes that may be held; beyond them every answer is as small as can be.
  public let size: Int
  /// Bytes held now.
  public private(set) var held = 0

  /// A budget of which nothing is held.
  public init(size: Int) { self.size = size }

  /// Most bytes that one more answer should have.
  public var share: Int { max(0, size - held) / 4 }

  /// Bytes of answers that one connection may leave unread before its requests are left unread, too.
  public var unsentLimit: Int { held >= size ? AnswerBudget.unsentWhenSpent : AnswerBudget.unsentUsually }

  /// Counts what is held anew.
  public mutating func change(by bytes: Int) {
    held += bytes
    precondition(held >= 0, "answers hold \(held) bytes")
  }

  private static let unsentUsually = 16 << 20
  private static let unsentWhenSpent = 64 << 10
}
