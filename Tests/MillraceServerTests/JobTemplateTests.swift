// JobTemplateTests: the package that `millrace new job` writes, as text. That it builds and runs, Scripts/examples shows.

import Testing

@testable import MillraceServer

private func file(_ template: JobTemplate?, _ path: String) throws -> String {
  let files = try #require(template).files
  return try #require(files.first { $0.path == path }?.text)
}

@Suite("a new job's package")
struct JobTemplateTests {
  @Test("files, modules and names follow from the job's name")
  func names() throws {
    let template = try #require(JobTemplate(name: "word-counts-2", millrace: .path("/m")))
    let paths = template.files.map { $0.path }
    #expect(
      paths == [
        "Package.swift", "README.md", ".gitignore", "Sources/WordCounts2Job/Job.swift",
        "Sources/word-counts-2/Program.swift", "Tests/WordCounts2JobTests/JobTests.swift",
      ])
    #expect(try file(template, "Sources/WordCounts2Job/Job.swift").contains(".job(named: \"word-counts-2\")"))
    #expect(try file(template, "Package.swift").contains(".package(name: \"millrace\", path: \"/m\")"))
  }

  @Test("a repository is known by the last part of its address")
  func repository() throws {
    let manifest = try file(JobTemplate(name: "a", millrace: .url("https://host/x/Mill.git")), "Package.swift")
    #expect(manifest.contains(".package(url: \"https://host/x/Mill.git\", branch: \"main\")"))
    #expect(manifest.contains("package: \"mill\""))
  }

  @Test("quotes and backslashes in a path stay what they are")
  func escapes() throws {
    let manifest = try file(JobTemplate(name: "a", millrace: .path(#"/a"b\c"#)), "Package.swift")
    #expect(manifest.contains(#"path: "/a\"b\\c""#))
  }

  @Test("a name that no package can have is refused", arguments: ["", "-a", "2", "A", "a b", "a/b", "ä", "a.b"])
  func refuses(name: String) { #expect(JobTemplate(name: name, millrace: .path("/m")) == nil) }
}
