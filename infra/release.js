// node infra/release.js --check [--tag]
// Whether this commit could be a release: the version is the same wherever it stands, the changelog tells users of it, and
// what it leaves on a server is recorded for later versions. With --tag also that the commit has the version's tag.
// Exits with 1 and says all that is missing.
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { inRoot } from "./workspace.js"

const json = (file) => JSON.parse(readFileSync(inRoot(file), "utf8"))

const { version, workspaces } = json("package.json")
const lock = json("package-lock.json").packages

/** Where the version stands beside package.json. */
const versions = () => [
  ["package-lock.json", lock[""].version],
  ...workspaces.flatMap((folder) => [
    [`${folder}/package.json`, json(`${folder}/package.json`).version],
    [`package-lock.json, ${folder}`, lock[folder]?.version],
  ]),
]

/** The packages bring what Chorus itself is tested with, and the lock file knows it. */
const dependencies = () => {
  const own = json("package.json").dependencies
  return workspaces.flatMap((folder) =>
    Object.entries(json(`${folder}/package.json`).dependencies).flatMap(([name, wanted]) => [
      ...(own[name] === wanted ? [] : [`${folder}/package.json wants ${name} ${wanted}, package.json ${own[name]}`]),
      ...(lock[folder]?.dependencies?.[name] === wanted
        ? []
        : [`package-lock.json does not have ${name} ${wanted} of ${folder}: npm install --package-lock-only`]),
    ]),
  )
}

/** The text of the version's section. */
const changes = () => {
  const [, text] = readFileSync(inRoot("CHANGELOG.md"), "utf8").split(`\n## ${version}\n`)
  return text?.split("\n## ")[0]?.trim()
}

const recording = `test/records/${version}/streams.json`

const recorded = () => {
  if (!existsSync(inRoot(recording))) return [`there is no ${recording}: node bin/node24.js test/records/record.ts`]
  return json(recording).version === version ? [] : [`${recording} is of version ${json(recording).version}`]
}

const tagged = () => {
  const { stdout } = spawnSync("git", ["tag", "--points-at", "HEAD"], { cwd: inRoot(), encoding: "utf8" })
  return stdout.split("\n").includes(`v${version}`) ? [] : [`this commit has no tag v${version}`]
}

const missing = () => [
  ...(/^\d+\.\d+\.\d+$/.test(version) ? [] : [`package.json's version ${version} is not of the form X.Y.Z`]),
  ...versions().flatMap(([where, other]) =>
    other === version ? [] : [`${where} says ${other}, package.json ${version}`],
  ),
  ...dependencies(),
  ...(changes() ? [] : [`CHANGELOG.md has nothing under "## ${version}"`]),
  ...recorded(),
  ...(options.includes("--tag") ? tagged() : []),
]

const options = process.argv.slice(2)
if (!options.includes("--check") || options.some((option) => !["--check", "--tag"].includes(option))) {
  process.stderr.write("usage: node infra/release.js --check [--tag]\n")
  process.exitCode = 2
} else {
  const wrong = missing()
  for (const line of wrong) process.stderr.write(`${line}\n`)
  if (wrong.length > 0) process.exitCode = 1
  else process.stdout.write(`${version} is ready to be released\n`)
}
