// CompressionGolden: data compressed by other implementations, and what it stands for.
//
// Made with Python 3.11 (zlib 1.2.13), kafka-python 3.0.12 over cramjam 2.14.0, lz4 4.4.5 and zstandard 0.25.0.

import Foundation
import MillraceBase
import MillraceCompression
import Testing

/// One golden file: its base64 stands for ``goldenText``.
struct Golden: Sendable, CustomTestStringConvertible {
  let name: String
  let format: CompressionFormat
  let base64: String

  init(_ name: String, _ format: CompressionFormat, _ base64: String) {
    self.name = name
    self.format = format
    self.base64 = base64
  }

  var testDescription: String { name }
  var bytes: Bytes { Bytes([UInt8](Data(base64Encoded: base64) ?? Data())) }
}

/// 20 times a sentence, then every byte once.
let goldenText = Bytes(
  [UInt8](String(repeating: "the miller takes the water, the water takes the wheel; ", count: 20).utf8)
    + (0...255).map { UInt8($0) })

let goldens: [Golden] = [
  Golden(
    "gzipOneMember", .gzip,
    """
    H4sIAAAAAAACAyvJSFXIzczJSS1SKEnMTi1WKAEKlCeWpBbpIJjIUhmpqTnWYOaotlFto9pGtcG1MTAyMbOwsrFzcHJx8/Dy8QsI\
    CgmLiIqJS0hKScvIyskrKCopq6iqqWtoamnr6OrpGxgaGZuYmplbWFpZ29ja2Ts4Ojm7uLq5e3h6efv4+vkHBAYFh4SGhUdERkXH\
    xMbFJyQmJaekpqVnZGZl5+Tm5RcUFhWXlJaVV1RWVdfU1tU3NDY1t7S2tXd0dnX39Pb1T5g4afKUqdOmz5g5a/acufPmL1i4aPGS\
    pcuWr1i5avWatevWb9i4afOWrdu279i5a/eevfv2Hzh46PCRo8eOnzh56vSZs+fOX7h46fKVq9eu37h56/adu/fuP3j46PGTp8+e\
    v3j56vWbt+/ef/j46fOXr9++//j56/efv//+AwBtH4s9TAUAAA==
    """),
  Golden(
    "gzipThreeMembers", .gzip,
    """
    H4sIAAAAAAAEAyvJSFXIzczJSS1SKEnMTi1WKAEKlCeWpBbpIJjIUhmpqTnWYKlRbdDQGmpBAgBxg0g/9AEAAB+LCAAAAAAAAAMD\
    AAAAAAAAAAAAH4sIAAAAAAAAA8vMyUktUihJzE4tVijJSFUoTyxJLdJBMJGlMlJTc6zBzNzMUW2j2vBpY2BkYmZhZWPn4OTi5uHl\
    4xcQFBIWERUTl5CUkpaRlZNXUFRSVlFVU9fQ1NLW0dXTNzA0MjYxNTO3sLSytrG1s3dwdHJ2cXVz9/D08vbx9fMPCAwKDgkNC4+I\
    jIqOiY2LT0hMSk5JTUvPyMzKzsnNyy8oLCouKS0rr6isqq6pratvaGxqbmlta+/o7Oru6e3rnzBx0uQpU6dNnzFz1uw5c+fNX7Bw\
    0eIlS5ctX7Fy1eo1a9et37Bx0+YtW7dt37Fz1+49e/ftP3Dw0OEjR48dP3Hy1OkzZ8+dv3Dx0uUrV69dv3Hz1u07d+/df/Dw0eMn\
    T589f/Hy1es3b9+9//Dx0+cvX799//Hz1+8/f//9BwAtjvSrWAMAAA==
    """),
  Golden(
    "gzipWithName", .gzip,
    """
    H4sICAUAAAAC/2EgbmFtZS50eHQAK8lIVcjNzMlJLVIoScxOLVYoAQqUJ5akFukgmMhSGampOdZg5qi2UW2j2ka1wbUxMDIxs7Cy\
    sXNwcnHz8PLxCwgKCYuIiolLSEpJy8jKySsoKimrqKqpa2hqaevo6ukbGBoZm5iamVtYWlnb2NrZOzg6Obu4url7eHp5+/j6+QcE\
    BgWHhIaFR0RGRcfExsUnJCYlp6SmpWdkZmXn5OblFxQWFZeUlpVXVFZV19TW1Tc0NjW3tLa1d3R2dff09vVPmDhp8pSp06bPmDlr\
    9py58+YvWLho8ZKly5avWLlq9Zq169Zv2Lhp85at27bv2Llr9569+/YfOHjo8JGjx46fOHnq9Jmz585fuHjp8pWr167fuHnr9p27\
    9+4/ePjo8ZOnz56/ePnq9Zu3795/+Pjp85ev377/+Pnr95+///4DAG0fiz1MBQAA
    """),
  Golden(
    "snappyRaw", .snappy,
    """
    zApAdGhlIG1pbGxlciB0YWtlcyABERR3YXRlciwZCy4bABBoZWVsOwUb/jcA/jcA/jcA/jcA/jcA/jcA/jcA/jcA/jcA/jcA/jcA\
    /jcA/jcA/jcA/jcA/jcAQjcA8P8AAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8wMTIzNDU2\
    Nzg5Ojs8PT4/QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl9gYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CB\
    goOEhYaHiImKi4yNjo+QkZKTlJWWl5iZmpucnZ6foKGio6SlpqeoqaqrrK2ur7CxsrO0tba3uLm6u7y9vr/AwcLDxMXGx8jJysvM\
    zc7P0NHS09TV1tfY2drb3N3e3+Dh4uPk5ebn6Onq6+zt7u/w8fLz9PX29/j5+vv8/f7/
    """),
  Golden(
    "snappyXerial", .snappy,
    """
    glNOQVBQWQAAAAABAAAAAQAAAEGABEB0aGUgbWlsbGVyIHRha2VzIAERFHdhdGVyLBkLLhsAEGhlZWw7BRv+NwD+NwD+NwD+NwD+\
    NwD+NwD+NwAFNwAAAEGABCh0aGUgd2F0ZXIsIBULFCB0YWtlcwkQEGhlZWw7BQsQbWlsbGUyHAD+NwD+NwD+NwD+NwD+NwD+NwD+\
    NwABNwAAATDMAkx0ZXIgdGFrZXMgdGhlIHdoZWVsOwULDG1pbGw2HAAQYXRlciwFHAULRjcA8P8AAQIDBAUGBwgJCgsMDQ4PEBES\
    ExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xd\
    Xl9gYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoOEhYaHiImKi4yNjo+QkZKTlJWWl5iZmpucnZ6foKGio6Slpqeo\
    qaqrrK2ur7CxsrO0tba3uLm6u7y9vr/AwcLDxMXGx8jJysvMzc7P0NHS09TV1tfY2drb3N3e3+Dh4uPk5ebn6Onq6+zt7u/w8fLz\
    9PX29/j5+vv8/f7/
    """),
  Golden(
    "snappyXerialOneBlock", .snappy,
    """
    glNOQVBQWQAAAAABAAAAAQAAAV/MCkB0aGUgbWlsbGVyIHRha2VzIAERFHdhdGVyLBkLLhsAEGhlZWw7BRv+NwD+NwD+NwD+NwD+\
    NwD+NwD+NwD+NwD+NwD+NwD+NwD+NwD+NwD+NwD+NwD+NwBCNwDw/wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEi\
    IyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj9AQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX2BhYmNkZWZnaGlqa2xt\
    bm9wcXJzdHV2d3h5ent8fX5/gIGCg4SFhoeIiYqLjI2Oj5CRkpOUlZaXmJmam5ydnp+goaKjpKWmp6ipqqusra6vsLGys7S1tre4\
    ubq7vL2+v8DBwsPExcbHyMnKy8zNzs/Q0dLT1NXW19jZ2tvc3d7f4OHi4+Tl5ufo6err7O3u7/Dx8vP09fb3+Pn6+/z9/v8=
    """),
  Golden(
    "lz4Kafka", .lz4,
    """
    BCJNGGhATAUAAAAAAAALMwEAAPACdGhlIG1pbGxlciB0YWtlcyARAGZ3YXRlciwLAAgbAFFoZWVsOxsADzcA/////wLw8QABAgME\
    BQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj9AQUJDREVGR0hJSktMTU5P\
    UFFSU1RVVldYWVpbXF1eX2BhYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ent8fX5/gIGCg4SFhoeIiYqLjI2Oj5CRkpOUlZaXmJma\
    m5ydnp+goaKjpKWmp6ipqqusra6vsLGys7S1tre4ubq7vL2+v8DBwsPExcbHyMnKy8zNzs/Q0dLT1NXW19jZ2tvc3d7f4OHi4+Tl\
    5ufo6err7O3u7/Dx8vP09fb3+Pn6+/z9/v8AAAAA
    """),
  Golden(
    "lz4LinkedChecksums", .lz4,
    """
    BCJNGHxATAUAAAAAAAD4MQEAAPACdGhlIG1pbGxlciB0YWtlcyARAGZ3YXRlciwLAAgbAG9oZWVsOyA3AP////8G8PEAAQIDBAUG\
    BwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/QEFCQ0RFRkdISUpLTE1OT1BR\
    UlNUVVZXWFlaW1xdXl9gYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoOEhYaHiImKi4yNjo+QkZKTlJWWl5iZmpuc\
    nZ6foKGio6SlpqeoqaqrrK2ur7CxsrO0tba3uLm6u7y9vr/AwcLDxMXGx8jJysvMzc7P0NHS09TV1tfY2drb3N3e3+Dh4uPk5ebn\
    6Onq6+zt7u/w8fLz9PX29/j5+vv8/f7/GgkgNgAAAACB6BDb
    """),
  Golden(
    "lz4TwoFrames", .lz4,
    """
    BCJNGGhAvAIAAAAAAADHNQAAAPACdGhlIG1pbGxlciB0YWtlcyARAGZ3YXRlciwLAAgbAFFoZWVsOxsADzcA//9rUGVyIHRhAAAA\
    AAQiTRhgQIIyAQAA4WtlcyB0aGUgd2hlZWw7CwCVbWlsbGVyIHRhHABRYXRlciwcAAELAAgbAA83AP8+8PEAAQIDBAUGBwgJCgsM\
    DQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX\
    WFlaW1xdXl9gYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoOEhYaHiImKi4yNjo+QkZKTlJWWl5iZmpucnZ6foKGi\
    o6SlpqeoqaqrrK2ur7CxsrO0tba3uLm6u7y9vr/AwcLDxMXGx8jJysvMzc7P0NHS09TV1tfY2drb3N3e3+Dh4uPk5ebn6Onq6+zt\
    7u/w8fLz9PX29/j5+vv8/f7/AAAAAA==
    """),
  Golden(
    "zstdSized", .zstd,
    """
    KLUv/WBMBH0JAAQSdGhlIG1pbGxlciB0YWtlcyB0aGUgd2F0ZXIsaGVlbDsAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0e\
    HyAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl9gYWJjZGVmZ2hp\
    amtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoOEhYaHiImKi4yNjo+QkZKTlJWWl5iZmpucnZ6foKGio6SlpqeoqaqrrK2ur7CxsrO0\
    tba3uLm6u7y9vr/AwcLDxMXGx8jJysvMzc7P0NHS09TV1tfY2drb3N3e3+Dh4uPk5ebn6Onq6+zt7u/w8fLz9PX29/j5+vv8/f7/\
    BAAOaPUBENQnD3srYw==
    """),
  Golden(
    "zstdUnsizedChecksum", .zstd,
    """
    KLUv/QQIbQkA1BF0aGUgbWlsbGVyIHRha2VzIHdhdGVyLGhlZWw7IAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEi\
    IyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj9AQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX2BhYmNkZWZnaGlqa2xt\
    bm9wcXJzdHV2d3h5ent8fX5/gIGCg4SFhoeIiYqLjI2Oj5CRkpOUlZaXmJmam5ydnp+goaKjpKWmp6ipqqusra6vsLGys7S1tre4\
    ubq7vL2+v8DBwsPExcbHyMnKy8zNzs/Q0dLT1NXW19jZ2tvc3d7f4OHi4+Tl5ufo6err7O3u7/Dx8vP09fb3+Pn6+/z9/v8EABJo\
    9ZdPCVy+pHUuAVF90UU=
    """),
  Golden(
    "zstdTwoFrames", .zstd,
    """
    KLUv/QQAVQEAEkIHDNA9gAQINT+AGQcyWw77B/Aq6486X6LGm9H5owEDAGpllk8J9lvGZr8ozSi1L/1g6AOFCQAEEmhlIHdoZWVs\
    OyB0aGUgbWlsbGVyIHRha2Vzd2F0ZXIsAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEy\
    MzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9\
    fn+AgYKDhIWGh4iJiouMjY6PkJGSk5SVlpeYmZqbnJ2en6ChoqOkpaanqKmqq6ytrq+wsbKztLW2t7i5uru8vb6/wMHCw8TFxsfI\
    ycrLzM3Oz9DR0tPU1dbX2Nna29zd3t/g4eLj5OXm5+jp6uvs7e7v8PHy8/T19vf4+fr7/P3+/wQAqrWqwCcHLlukdo4B
    """),
]
