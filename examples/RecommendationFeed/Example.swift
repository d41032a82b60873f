// RecommendationFeed: what others looked at together with what a user looked at, the most frequent first, live.
//
//   swift run --package-path examples RecommendationFeed

import Foundation
import Millrace

/// A product for a user, and how many users looked at it together with one that this user looked at.
struct Suggestion: StateCodable {
  var user: String
  var product: String
  var count: Int64

  init(user: String, product: String, count: Int64) {
    self.user = user
    self.product = product
    self.count = count
  }

  static var stateEncoding: String { "suggestion/1" }
  func encode(into writer: inout ByteWriter) {
    user.encode(into: &writer)
    product.encode(into: &writer)
    count.encode(into: &writer)
  }
  init(from reader: inout ByteReader) throws(StateDecodingError) {
    user = try String(from: &reader)
    product = try String(from: &reader)
    count = try Int64(from: &reader)
  }
}

enum Example {
  /// What is told about a product.
  enum Fact {
    case viewed(product: String, by: String)
    case together(product: String, other: String, by: String)

    var product: String {
      switch self {
      case .viewed(let product, _), .together(let product, _, _): product
      }
    }
  }

  /// A view is a record with the user as its key and the product as its value.
  static func job() -> JobDefinition {
    let viewed = MapState<String, Bool>("viewed")
    // Of a user: everything together with everything before.
    let facts = DataStream.topic("views").keyBy { $0.key.text }.process([viewed], name: "users") {
      (view: InputRecord, user: StatefulContext<String>, emit: (Fact) -> Void) in
      let product = view.value.text
      guard user[viewed][product] == nil else { return }
      for (other, _) in user[viewed].elements {
        emit(.together(product: product, other: other, by: user.key))
        emit(.together(product: other, other: product, by: user.key))
      }
      user[viewed][product] = true
      emit(.viewed(product: product, by: user.key))
    }
    // Of a product: who looked at it, and at what else. Each change writes the element that it changes.
    let counts = MapState<String, Int64>("counts")
    let users = MapState<String, Bool>("users")
    let both = MapState<[String], Bool>("both")
    let suggestions = facts.keyBy(\.product).process([counts, users, both], name: "products") {
      (fact: Fact, product: StatefulContext<String>, emit: (Suggestion) -> Void) in
      func suggest(_ other: String, _ count: Int64, to user: String) {
        guard product[both][[user, other]] == nil else { return }
        emit(Suggestion(user: user, product: other, count: count))
      }
      switch fact {
      case .viewed(_, let user):
        product[users][user] = true
        for (other, count) in product[counts].elements { suggest(other, count, to: user) }
      case .together(_, let other, let user):
        product[both][[user, other]] = true
        let count = (product[counts][other] ?? 0) + 1
        product[counts][other] = count
        for (user, _) in product[users].elements { suggest(other, count, to: user) }
      }
    }
    return suggestions.keyBy(\.user).top(2, name: "feeds", distinct: \.product, by: \.count)
      .map { Keyed(key: $0.key, value: $0.value.map { "\($0.product) \($0.count)" }.joined(separator: ", ")) }
      .to(topic: "feeds")
      .job(named: "recommendation-feed")
  }

  static let views = [
    ("ann", "tea"), ("ann", "pot"), ("bob", "tea"), ("bob", "pot"), ("bob", "cup"), ("cid", "tea"), ("cid", "cup"),
    ("dan", "tea"),
  ]

  static func run() async throws {
    let directory = NSTemporaryDirectory() + "millrace-example-\(UUID().uuidString)"
    let broker = try await EmbeddedBroker.open(directory: directory)
    let running = try await broker.run(job())
    for (user, product) in views {
      try await broker.produce([Record(key: Bytes(user), value: Bytes(product))], to: "views")
    }
    // Of equal counts the name decides.
    let expected = ["ann": "cup 2", "dan": "cup 2, pot 2"]
    var feeds: [String: String] = [:]
    for try await feed in broker.consume("feeds") {
      let user = feed.key?.text ?? ""
      feeds[user] = feed.text
      print("\(user): \(feed.text)")
      if expected.allSatisfy({ feeds[$0.key] == $0.value }) { break }
    }
    try await running.stop()
    try await broker.close()
    try FileManager.default.removeItem(atPath: directory)
  }
}
