// JobExplanation: what a job is made of, as text and as a graph.
//
// Operators are values that hold the operators before them, so that looking at their parts finds the whole graph; they need not know
// how to describe themselves. What one operator is, its type says; a shared flow is one node, however many flows read it.

import MillraceBase

/// The operators of a job and how values go through them.
///
///     print(job.explain().text)
///     try job.explain().graphviz.write(toFile: "job.dot", atomically: true, encoding: .utf8)
public struct JobExplanation: Sendable {
  /// An operator, an input or an output.
  public struct Node: Sendable, Equatable {
    /// What it is: the name of its type, such as `WindowAggregate`.
    public let kind: String
    /// The topic or source that it reads or writes, or the name that owns its state; empty without one.
    public let name: String
    /// The type of the values that it hands on; empty for an output.
    public let output: String
    /// Numbers of the nodes before it, in order.
    public let upstreams: [Int]
    /// Values come to it by key: in a job of several workers, from all of them.
    public let isKeyed: Bool
  }

  /// The job's name.
  public let job: String
  /// All nodes; each stands behind those before it.
  public let nodes: [Node]
  /// The nodes of each chain, which are fused into one loop and counted at its ends; as ``ChainMeter`` says. A chain may have none, where
  /// two such places follow each other.
  let chains: [[Int]]

  /// As text: a line for each node, with the numbers of those before it.
  public var text: String {
    var lines = ["job \(job)"]
    for (number, node) in nodes.enumerated() {
      let from = node.upstreams.map { "\($0)" }.joined(separator: ", ")
      let arrow = node.upstreams.isEmpty ? "" : " <- \(from)\(node.isKeyed ? " by key" : "")"
      lines.append("\(number): \(JobExplanation.label(node))\(node.output.isEmpty ? "" : ": \(node.output)")\(arrow)")
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// As a graph for Graphviz' `dot`.
  public var graphviz: String {
    func quoted(_ text: String) -> String {
      "\"" + text.flatMap { $0 == "\"" || $0 == "\\" ? ["\\", $0] : [$0] } + "\""
    }
    var lines = ["digraph \(quoted(job)) {", "  rankdir=LR; node [shape=box];"]
    for (number, node) in nodes.enumerated() {
      lines.append("  n\(number) [label=\(quoted(JobExplanation.label(node)))];")
      for from in node.upstreams {
        let output = quoted(nodes[from].output)
        lines.append("  n\(from) -> n\(number) [label=\(output)\(node.isKeyed ? ", style=bold" : "")];")
      }
    }
    return lines.joined(separator: "\n") + "\n}\n"
  }

  private static func label(_ node: Node) -> String { node.name.isEmpty ? node.kind : "\(node.kind) \(node.name)" }
}

extension JobDefinition {
  /// What the job is made of. Nothing is run.
  public func explain() -> JobExplanation {
    var explorer = FlowExplorer()
    for pipeline in pipelines { explorer.visit(pipeline.flow, into: pipeline.sink) }
    return JobExplanation(job: name, nodes: explorer.nodes, chains: explorer.chains)
  }
}

/// Collects the nodes of a job's flows.
private struct FlowExplorer {
  private(set) var nodes: [JobExplanation.Node] = []
  /// In the order in which a graph closes them.
  private(set) var chains: [[Int]] = []
  private var opened: [[Int]] = []
  private var shared: [ObjectIdentifier: Int] = [:]

  /// Adds a flow's operators and its sink.
  mutating func visit(_ flow: any Flow, into sink: any RecordSink) {
    opened.append([])
    let last = visitChain(flow).number
    add(
      JobExplanation.Node(
        kind: FlowExplorer.kind(type(of: sink)), name: FlowExplorer.name(of: sink), output: "", upstreams: [last],
        isKeyed: false))
    chains.append(opened.removeLast())
  }

  private mutating func add(_ node: JobExplanation.Node) {
    opened[opened.count - 1].append(nodes.count)
    nodes.append(node)
  }

  /// Adds a flow that ends where values are counted.
  private mutating func visitChain(_ flow: any Flow) -> (number: Int, isKeyed: Bool) {
    opened.append([])
    let found = visit(flow)
    chains.append(opened.removeLast())
    return found
  }

  /// - Returns: the flow's node, and whether an exchange lies behind it.
  private mutating func visit(_ flow: any Flow) -> (number: Int, isKeyed: Bool) {
    let parts = Mirror(reflecting: flow).children
    let identity = parts.lazy.compactMap { $0.value as? SharedIdentity }.first.map { ObjectIdentifier($0) }
    if let identity, let known = shared[identity] { return (known, false) }
    let isPassage = flow is any ExchangeFlow || flow is any SpreadFlow
    let endsChains = isPassage || flow is any MergeFlow
    if identity != nil { opened.append([]) }
    let upstreams = parts.compactMap { $0.value as? any Flow }.map { endsChains ? visitChain($0) : visit($0) }
    // An exchange is no operator of its own: it says how values come to the next one.
    if isPassage, let only = upstreams.first { return (only.number, flow is any ExchangeFlow) }
    add(
      JobExplanation.Node(
        kind: FlowExplorer.kind(type(of: flow)), name: FlowExplorer.name(of: flow),
        output: FlowExplorer.output(of: flow), upstreams: upstreams.map(\.number),
        isKeyed: upstreams.contains { $0.isKeyed }))
    if let identity {
      shared[identity] = nodes.count - 1
      chains.append(opened.removeLast())
    }
    return (nodes.count - 1, false)
  }

  /// The type's name without what it is generic over.
  private static func kind(_ type: Any.Type) -> String { String("\(type)".prefix { $0 != "<" }) }

  private static func output<Source: Flow>(of flow: Source) -> String { "\(Source.Output.self)" }

  private static func name(of part: Any) -> String {
    for child in Mirror(reflecting: part).children {
      switch child.value {
      case let input as JobInput: return input.name
      case let topic as SinkTopic: return topic.name
      case let name as String? where child.label == "name": return name ?? ""
      case let sink as any RecordSink: return name(of: sink)
      default: continue
      }
    }
    return ""
  }
}
