// Single packages from npm and PyPI, each checked against a hash before anything of it is used.
import { createHash } from "node:crypto"
import { mkdirSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { npm } from "./tools.js"
import { inRoot, run, SetupFailed } from "./workspace.js"

/** A package's tarball, checked; returns its path. */
export const pack = async ({ spec, integrity }, folder) => {
  const target = join(folder, spec.replace(/\W+/g, "-"))
  mkdirSync(target)
  const [command, ...first] = npm()
  await run(command, [...first, "pack", spec, "--ignore-scripts", "--loglevel=error", "--pack-destination", target], {
    cwd: target,
  })
  const tarball = join(target, readdirSync(target)[0])
  const actual = `sha512-${createHash("sha512").update(readFileSync(tarball)).digest("base64")}`
  if (actual !== integrity) {
    throw new SetupFailed(
      `npm's ${spec} is not what it was: its hash is ${actual}, not ${integrity}. Try again; if it stays so, do not use it.`,
    )
  }
  return tarball
}

/** Python packages of a requirements file with hashes; returns the wheels' paths. */
export const download = async (requirements, folder) => {
  const target = join(folder, "downloads")
  mkdirSync(target)
  const options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--disable-pip-version-check", "--quiet"]
  await run("python3", ["-m", "pip", "download", ...options, "--dest", target, "--requirement", inRoot(requirements)])
  return readdirSync(target).map((name) => join(target, name))
}
