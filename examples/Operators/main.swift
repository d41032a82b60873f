// The program: a few lines, because closures in this file would belong to the main actor.

import Foundation

do {
  try Example.run()
} catch {
  FileHandle.standardError.write(Data("\(error)\n".utf8))
  exit(1)
}
