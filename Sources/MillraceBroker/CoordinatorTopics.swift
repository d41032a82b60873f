// CoordinatorTopics: the broker's topics as consumer groups ask for them, with what regular expressions stand for kept.

import MillraceBase
import MillraceMetadata
import MillraceModel
import MillracePattern

/// Topics, and the names that each regular expression in use stands for. Belongs to the broker's reactor.
final class CoordinatorTopics: GroupTopics {
  private struct Entry {
    let pattern: Pattern
    var names: [String]
  }

  private let metadata: Metadata
  private let logger: Logger
  private let access: () -> AccessControl
  private var entries: [String: Entry] = [:]
  /// Topics that the entries were held against, and the version at which they were.
  private var names: Set<String> = []
  private var version = -1
  private var counted: (version: Int, partitions: Int)?
  /// Compiled expressions that are kept without being in use, so that members that come and go cost no compiling.
  static let spareEntries = 64
  /// How many entries there may be before those that are not in use are looked for.
  private var entryLimit = CoordinatorTopics.spareEntries

  init(metadata: Metadata, logger: Logger, access: @escaping () -> AccessControl) {
    self.access = access
    self.metadata = metadata
    self.logger = logger
  }

  /// Changes whenever the answers may: with the topics, and with what clients may know of them.
  var currentVersion: Int { metadata.topicsVersion &+ Int(truncatingIfNeeded: access().version) }

  func topic(_ name: String) -> (id: TopicID, partitions: Int32)? {
    metadata.topics[name].map { ($0.id, Int32($0.partitions.count)) }
  }

  func partitions(of id: TopicID) -> Int32? { metadata.topic(id).map { Int32($0.partitions.count) } }

  /// How many partitions there are in all topics together.
  var partitionCount: Int {
    if let counted, counted.version == metadata.topicsVersion { return counted.partitions }
    let sum = metadata.topics.values.reduce(0) { $0 + $1.partitions.count }
    counted = (metadata.topicsVersion, sum)
    return sum
  }

  /// Names in order; none for an expression that was not added.
  func names(matching pattern: String, for client: ClientIdentity?) -> [String] {
    refresh()
    let names = entries[pattern]?.names ?? []
    let access = access()
    guard let client, !access.isOpen else { return names }
    return names.filter { access.allows(.describe, .topic, $0, by: client) }
  }

  /// Compiles an expression and holds it against all topics; internal ones are left out.
  /// - Parameter inUse: expressions that groups have; others are forgotten when there are too many.
  /// - Throws: `.invalidPattern`
  func add(_ text: String, inUse: () -> Set<String>) throws(BrokerError) {
    refresh()
    guard entries[text] == nil else { return }
    do throws(PatternError) {
      let pattern = try Pattern(text)
      let found = try pattern.filter(names.sorted())
      if entries.count >= entryLimit {
        let used = inUse()
        entries = entries.filter { used.contains($0.key) }
        entryLimit = 2 * entries.count + CoordinatorTopics.spareEntries
      }
      entries[text] = Entry(pattern: pattern, names: found)
    } catch {
      throw BrokerError(.invalidPattern, "regular expression: \(error)")
    }
  }

  /// Follows topics that came and went, so that a new topic costs one match an expression.
  private func refresh() {
    guard version != metadata.topicsVersion else { return }
    version = metadata.topicsVersion
    let current = Set(metadata.topics.values.lazy.filter { !$0.isInternal }.map(\.name))
    let added = current.subtracting(names).sorted()
    let removed = names.subtracting(current)
    names = current
    guard !added.isEmpty || !removed.isEmpty else { return }
    for (text, entry) in entries {
      var kept = entry.names.filter { !removed.contains($0) }
      do throws(PatternError) {
        kept += try entry.pattern.filter(added)
      } catch {
        logger.log(
          .warning, "groups", "new topics are not matched by a regular expression",
          ["expression": text, "error": error.description, "topics": "\(added.count)"])
      }
      entries[text]?.names = kept.sorted()
    }
  }
}
