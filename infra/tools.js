// The programs that a set-up needs and cannot bring: all that are missing are named at once, with the commands that
// install them.
import { spawnSync } from "node:child_process"
import { SetupFailed, which } from "./workspace.js"

const tools = {
  npm: { why: "brings the packages", found: () => npm() !== undefined, debian: "npm", fedora: "npm", macos: "node" },
  git: { why: "unpacks ggml's headers", found: () => which("git"), debian: "git", fedora: "git" },
  tar: { why: "unpacks packages", found: () => which("tar"), debian: "tar", fedora: "tar" },
  "a C++17 compiler": {
    why: "builds the native module",
    found: () => [process.env.CXX, "c++", "g++", "clang++"].some((name) => name && which(name.split(" ")[0])),
    debian: "g++",
    fedora: "gcc-c++",
  },
  "make or ninja": {
    why: "builds the native module",
    found: () => which("ninja") ?? which("make"),
    debian: "make",
    fedora: "make",
  },
  CMake: {
    why: "builds the native module",
    found: () => which("cmake"),
    debian: "cmake",
    fedora: "cmake",
    macos: "cmake",
  },
  "Python 3 with pip": {
    why: "brings prebuilt programs",
    found: hasPip,
    debian: "python3-pip",
    fedora: "python3-pip",
    macos: "python",
  },
  "nats-server 2.12.2 or newer": {
    why: "carries the messages; Python with pip or Go would bring it",
    found: () => hasPip() || which("go"),
    debian: "python3-pip",
    fedora: "python3-pip",
    macos: "nats-server",
  },
}

/** A browser, for the tests of the playground alone: says how to install one where there is none. */
export const browserMissing = () => {
  if (["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"].some((name) => which(name))) return
  return "No Chromium on PATH: the playground's tests will skip (Debian, Ubuntu: sudo apt-get install -y chromium)."
}

function hasPip() {
  return which("python3") !== undefined && spawnSync("python3", ["-m", "pip", "--version"]).status === 0
}

/** The command that is npm here, the same one that runs the set-up where there is one. */
export const npm = () => {
  const running = process.env.npm_execpath
  if (running?.endsWith("npm-cli.js")) return [process.execPath, running]
  const found = which("npm")
  return found && [found]
}

/** Fails if one of the tools, named by the keys above, is missing. */
export const requireTools = (names) => {
  const missing = [...new Set(names)].filter((name) => !tools[name].found())
  if (missing.length === 0) return
  const packages = (system) => [...new Set(missing.map((name) => tools[name][system]).filter(Boolean))].join(" ")
  const macos = [
    missing.some((name) => !tools[name].macos) && "xcode-select --install",
    packages("macos") && `brew install ${packages("macos")}`,
  ]
  throw new SetupFailed(
    [
      "These are missing here:",
      ...missing.map((name) => `  ${name} (${tools[name].why})`),
      "Install them and run the same command again:",
      `  Debian, Ubuntu   sudo apt-get install -y ${packages("debian")}`,
      `  Fedora           sudo dnf install -y ${packages("fedora")}`,
      `  macOS            ${macos.filter(Boolean).join(" && ")}`,
    ].join("\n"),
  )
}
