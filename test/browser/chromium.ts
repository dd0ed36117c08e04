// The system's Chromium, driven by Playwright: found on PATH, for npm brings no browser.
import { accessSync, constants } from "node:fs"
import { delimiter, join } from "node:path"
import { type Browser, chromium, type Page } from "playwright-core"

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]

export const HOW_TO_GET = "these tests need Chromium on PATH: sudo apt-get install -y chromium"

export const executable = (): string | undefined =>
  (process.env.PATH ?? "")
    .split(delimiter)
    .flatMap((folder) => NAMES.map((name) => join(folder, name)))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK)
        return true
      } catch {
        return false
      }
    })

/** It sends no request of its own. */
const FLAGS = [
  ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
  ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
]

export const launch = (): Promise<Browser> => {
  const executablePath = executable()
  if (executablePath === undefined) throw new Error(HOW_TO_GET)
  return chromium.launch({ executablePath, args: FLAGS })
}

/** A page, and what it should not do: say something on the console, fail, or load from elsewhere. */
export const watched = async (browser: Browser, options: Parameters<Browser["newPage"]>[0] = {}) => {
  const page = await browser.newPage(options)
  const complaints: Array<string> = []
  const loaded: Array<string> = []
  page.on("console", (message) => complaints.push(`${message.type()}: ${message.text()}`))
  page.on("pageerror", (error) => complaints.push(`error: ${error.message}`))
  page.on("request", (request) => loaded.push(request.url()))
  return { page, complaints, loaded }
}

export type { Page }
