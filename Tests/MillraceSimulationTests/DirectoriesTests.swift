// DirectoriesTests: folders made with those above them, and what a power loss leaves of them.

import MillraceIO
import Testing

@testable import MillraceSimulation

@Test("folders made with those above them survive a power loss, whoever made some of them before", arguments: 0..<3)
func foldersSurvive(alreadyThere: Int) throws {
  for seed in UInt64(0)..<40 {
    let world = SimulatedWorld(seed: seed)
    let system = SimulatedFileSystem(world: world)
    // As a process leaves it that was killed right after making a folder: there, but in the page cache only.
    let folders = ["/a", "/a/b", "/a/b/c", "/a/b/c/d"]
    if alreadyThere > 0 {
      if alreadyThere == 2 {
        try system.createDirectory(folders[0])
        try system.syncDirectory("/")
      }
      try system.createDirectory(folders[alreadyThere - 1])
    }
    try system.createDirectories("/a/b/c/d")
    try system.syncDirectory("/a/b/c")
    world.crash(.powerLoss)
    world.restart()
    let after = system.reopen()
    for folder in folders { #expect(try after.exists(folder), "\(folder), seed \(seed)") }
  }
}

@Test("recovers from a power loss at every operation of making folders")
func recoversWhileMakingFolders() throws {
  for seed in UInt64(0)..<20 {
    for lost in 1..<12 {
      let world = SimulatedWorld(seed: seed)
      let system = SimulatedFileSystem(world: world)
      world.crashAfterOperations(lost)
      do throws(IOError) {
        try system.createDirectories("/a/b/c/d/e")
      } catch {
        #expect(world.isCrashed, "seed \(seed): \(error)")
      }
      if !world.isCrashed { world.crash(.powerLoss) }
      world.restart()
      let after = system.reopen()
      try after.createDirectories("/a/b/c/d/e")
      #expect(try after.exists("/a/b/c/d/e"), "seed \(seed), operation \(lost)")
    }
  }
}

@Test("a file where a folder is needed is named, and an existing directory is left alone")
func foldersAndFiles() throws {
  let system = SimulatedFileSystem(world: SimulatedWorld(seed: 1))
  try system.createDirectories("/a/b")
  try system.createDirectories("/a/b")
  try system.open("/a/file", [.write, .create]).close()
  let error = #expect(throws: IOError.self) { try system.createDirectories("/a/file/c") }
  #expect(error?.subject.contains("/a/file") == true)
  #expect(throws: IOError.self) { try system.createDirectories("/a/file") }
}

@Test("the directory above a path is found whatever its slashes")
func parents() {
  let system = SimulatedFileSystem(world: SimulatedWorld(seed: 1))
  for (path, parent) in [
    ("a", "."), ("a/", "."), ("a/b", "a"), ("a/b//", "a"), ("a//b", "a"), ("/a", "/"), ("/a/", "/"), ("/", "/"),
    ("//a", "/"), ("/a/b", "/a"), ("./a", "."), ("../a", ".."),
  ] {
    #expect(system.parentDirectory(of: path) == parent, "\(path)")
  }
}
