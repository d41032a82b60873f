// Canary: shows that a run finds what there is to find.

import FuzzHarness
import MillraceBase

/// Holds a planted bug, which a run must find: bytes that begin with `mr!`.
let canary = FuzzTarget(name: "canary") { input in
  let bytes = input.array
  guard bytes.count >= 3, bytes[0] == UInt8(ascii: "m"), bytes[1] == UInt8(ascii: "r") else { return }
  precondition(bytes[2] != UInt8(ascii: "!"), "the canary's planted bug")
}
