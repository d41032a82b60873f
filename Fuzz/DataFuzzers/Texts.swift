// Texts: JSON, and the text whose words are counted.

import FuzzHarness
import MillraceBase
import MillraceStreams

/// JSON of any kind.
let jsonValues = FuzzTarget(
  name: "json", allowance: 2 << 20,
  seeds: {
    [#"{"a":[1,-2.5e3,true,null,"\u00e9\n"],"b":{}}"#, "[[[[]]]]", "\"\\ud83d\\ude00\""].map { Array($0.utf8) }
  }
) { input in
  do throws(DecodingError) {
    _ = try input.withBuffer { buffer throws(DecodingError) in try JSONValue(buffer) }
  } catch {
    precondition(error.position >= 0 && error.position <= input.count, "position \(error.position) of \(input.count)")
  }
}

/// Text of any kind, also no UTF-8.
let words = FuzzTarget(
  name: "words", seeds: { ["Don't stop. The END, naïve 東京 42!"].map { Array($0.utf8) } }
) { input in
  input.withBuffer { buffer in
    var bytes = 0
    Words.forEach(in: buffer) { word in
      precondition(!word.isEmpty, "an empty word")
      bytes += word.count
    }
    precondition(bytes <= 4 * buffer.count, "\(bytes) bytes of words in \(buffer.count) bytes of text")
  }
}
