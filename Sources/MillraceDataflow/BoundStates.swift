// BoundStates: the named states of one run of a function, and how a function finds them by their descriptions.

import MillraceBase

/// The named states of one run of a function.
///
/// Safety: `@unchecked Sendable` because it is used by the job's worker thread only.
@usableFromInline
final class BoundStates: @unchecked Sendable {
  private let states: [(identity: ObjectIdentifier, state: BoundState)]

  /// Registers `states`.
  /// - Parameters:
  ///   - owner: the function's name.
  ///   - isShared: whether all workers have the same.
  /// - Throws: `.invalidJob` when two states have one name.
  init(
    _ states: [any ProcessState], in graph: inout JobGraph, of owner: String?, isShared: Bool = false
  ) throws(JobError) {
    var bound: [(identity: ObjectIdentifier, state: BoundState)] = []
    for state in states {
      let one = try state.bound(to: &graph, of: owner)
      one.isShared = isShared
      bound.append((ObjectIdentifier(state), one))
    }
    self.states = bound
  }

  @usableFromInline
  func table<Element: StateCodable, Content: StateCodable>(
    of state: any ProcessState
  ) -> StateTable<Element, Content> {
    guard let found = states.first(where: { $0.identity == ObjectIdentifier(state) }) else {
      preconditionFailure("the state \"\(state.name)\" is not among those that were handed to the operator")
    }
    return unsafeDowncast(found.state, to: StateTable<Element, Content>.self)
  }

  @usableFromInline
  func expire(_ time: Timestamp) { for (_, state) in states { state.expire(time) } }
}
