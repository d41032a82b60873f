// ExplanationTests: what a job is made of, as text and as a graph.

import MillraceDataflow
import MillraceStreams
import Testing

@Test("a job says its operators, where values go by key, and reads what is shared once")
func explain() {
  let words = DataStream.topic("lines").flatMap(Words()).shared()
  let counts = words.keyBy(\.self).count(name: "words")
  let job = StreamOutput.job(
    named: "twice", [counts.to(topic: "counts"), words.merge(words).forEach { _ in }])
  let explanation = job.explain()
  #expect(
    explanation.text == """
      job twice
      0: RecordInput lines: InputRecord
      1: FlatMap: BorrowedBytes <- 0
      2: Shared: BorrowedBytes <- 1
      3: KeyedAggregate words: Keyed<BorrowedBytes, Int64> <- 2 by key
      4: KeyedTopicSink counts <- 3
      5: Merge: BorrowedBytes <- 2, 2
      6: CallSink <- 5

      """)
  #expect(
    explanation.graphviz == """
      digraph "twice" {
        rankdir=LR; node [shape=box];
        n0 [label="RecordInput lines"];
        n1 [label="FlatMap"];
        n0 -> n1 [label="InputRecord"];
        n2 [label="Shared"];
        n1 -> n2 [label="BorrowedBytes"];
        n3 [label="KeyedAggregate words"];
        n2 -> n3 [label="BorrowedBytes", style=bold];
        n4 [label="KeyedTopicSink counts"];
        n3 -> n4 [label="Keyed<BorrowedBytes, Int64>"];
        n5 [label="Merge"];
        n2 -> n5 [label="BorrowedBytes"];
        n2 -> n5 [label="BorrowedBytes"];
        n6 [label="CallSink"];
        n5 -> n6 [label="BorrowedBytes"];
      }

      """)
}

@Test("joins have two sides, windows with late values a name, and quotes in names do no harm")
func explainJoins() {
  let left = DataStream.topic("a \"b\"").map { $0.value.text }.keyBy { $0 }
  let right = DataStream.topic("c").map { $0.value.text }.keyBy { $0 }
  let job = left.join(right, name: "pairs").map { $0.left }.to(topic: "out").job(named: "j")
  let explanation = job.explain()
  let join = explanation.nodes.first { $0.kind == "StreamJoin" }
  #expect(join?.name == "pairs" && join?.isKeyed == true && join?.upstreams.count == 2)
  #expect(explanation.graphviz.contains(#"[label="RecordInput a \"b\""]"#))
  #expect(explanation.nodes.last?.name == "out")
}
