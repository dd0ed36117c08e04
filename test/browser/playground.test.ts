// The playground in a real browser, on a real cluster with the demo pair: by keyboard alone, and what it shows is what the
// session says.
import { once } from "node:events"
import type { Browser, Locator } from "playwright-core"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest"
import { Cluster } from "../integration/cluster.ts"
import { chatModel, type Gateway, startGateway } from "../integration/gateways.ts"
import { PROMPT } from "../integration/requests.ts"
import { executable, HOW_TO_GET, launch, type Page, watched } from "./chromium.ts"

const TREE = { depth: 5, width: 3, nodes: 12 } // the page's own choice
const base = chatModel()
let browser: Browser
let cluster: Cluster
let gateway: Gateway

describe.skipIf(executable() === undefined)(
  `the playground${executable() === undefined ? ` (${HOW_TO_GET})` : ""}`,
  () => {
    beforeAll(async () => {
      browser = await launch()
      cluster = await Cluster.start({ name: "demo", base: base.path, context: 1024 })
      gateway = await startGateway(cluster.local)
    })
    afterAll(async () => {
      await gateway?.[Symbol.asyncDispose]()
      await cluster?.[Symbol.asyncDispose]()
      await browser?.close()
      base[Symbol.dispose]()
    })

    let page: Page
    let complaints: Array<string>
    let loaded: Array<string>

    const open = async (options: Parameters<typeof watched>[1] = {}) => {
      ;({ page, complaints, loaded } = await watched(browser, options))
      await page.goto(gateway.url)
      await page.locator("#model option[value=demo]").waitFor({ state: "attached" })
    }
    beforeEach(() => open())
    afterEach(async () => {
      await page.close()
      expect(complaints).toEqual([])
      expect(loaded.filter((url) => !url.startsWith(gateway.url))).toEqual([])
    })

    const field = (name: string) => page.locator(`[name=${name}]`)
    const status = () => page.locator("#status")
    const ended = () =>
      status()
        .filter({ hasText: / tokens after \d+ of prompt in / })
        .waitFor()
    const answer = () => page.locator("#answer")
    const tokens = (origin: string) => page.locator(`#answer .token.${origin}`)
    const textOf = async (all: Locator) => (await all.allTextContents()).join("")

    /** The focused element's name or id, after this many presses of Tab. */
    const focused = () => page.evaluate("document.activeElement?.name || document.activeElement?.id")

    test("by keyboard alone: focus goes through the form in order, Ctrl+Enter generates, and the text is the session's", async () => {
      await page.keyboard.press("Tab")
      await page.keyboard.press("Enter") // the link that skips to the prompt
      expect(await focused()).toBe("prompt")
      await page.keyboard.press("Control+A")
      await page.keyboard.type(PROMPT)
      const order: Array<unknown> = []
      for (let i = 0; i < 11; i++) {
        await page.keyboard.press("Tab")
        order.push(await focused())
        if (order.at(-1) === "max_tokens") await page.keyboard.type("40")
        if (order.at(-1) === "seed") await page.keyboard.type("11")
      }
      const sampling = ["generate", "temperature", "top_p", "top_k", "max_tokens", "seed"]
      expect(order).toEqual([...sampling, "speculation", "depth", "width", "nodes", "fuzzy"])
      await page.keyboard.press("Control+Enter")
      await ended()
      const alone = await cluster.generate({ prompt: PROMPT, maxTokens: 40, seed: 11n, speculation: TREE })
      expect(await textOf(page.locator("#answer .token"))).toBe(alone.text)
      expect(await answer().textContent()).toBe(PROMPT + alone.text)
      expect(await status().textContent()).toMatch(/: 40 tokens after \d+ of prompt in .* seed 11\./)
    })

    describe("a generation with a tree", () => {
      beforeEach(async () => {
        await field("max_tokens").fill("48")
        await page.locator("#generate").click()
        await ended()
      })

      test("tells drafted from corrected tokens by colour, by line and by words; the legend has the same", async () => {
        for (const [origin, line, words] of [
          ["drafted", "solid", "drafted and accepted"],
          ["corrected", "dotted", "corrected by the base"],
        ] as const) {
          const shown = tokens(origin).first()
          expect(await tokens(origin).count()).toBeGreaterThan(0)
          const legend = page.locator(`.legend .token.${origin}`)
          for (const of of [shown, legend]) expect(await lookOf(of)).toMatchObject({ line: `underline ${line}` })
          expect((await lookOf(shown)).colour).toBe((await lookOf(legend)).colour)
          expect(await shown.getAttribute("title")).toBe(words)
        }
        const colours = await Promise.all(
          ["drafted", "corrected"].map(async (o) => (await lookOf(tokens(o).first())).colour),
        )
        expect(new Set([...colours, (await lookOf(page.locator(".legend .token.plain"))).colour]).size).toBe(3)
      })

      test("draws the tree of each iteration, the accepted path marked, and its tokens are framed in the text", async () => {
        const slider = page.locator("#step")
        const iterations = Number(await slider.getAttribute("max"))
        expect(iterations).toBeGreaterThan(1)
        await slider.focus()
        await page.keyboard.press("Home")
        let accepted = 0
        for (let i = 1; i <= iterations; i++) {
          const label = page.locator("#step-label").filter({ hasText: `iteration ${i} of ${iterations}:` })
          const [, path, nodes] = /: (\d+) of (\d+) accepted/.exec((await label.textContent()) ?? "") ?? []
          expect(await page.locator("#tree g.accepted").count()).toBe(Number(path))
          expect(await page.locator("#tree g.accepted, #tree g.rejected").count()).toBe(Number(nodes))
          expect(await page.locator("#tree path.accepted").count()).toBe(Number(path))
          expect(await page.locator("#tree g.bonus").count()).toBe(1)
          accepted += Number(path)
          await page.keyboard.press("ArrowRight")
        }
        expect(await tokens("drafted").count()).toBeLessThanOrEqual(accepted) // the last path may be cut
        expect(await tokens("drafted").count()).toBeGreaterThan(accepted - TREE.depth)
        expect(await page.locator("#answer .token.of-step").count()).toBeGreaterThan(0)
        expect(await page.locator("#accepted rect.bar").count()).toBe(iterations)
        expect(await page.locator("#speed polyline").getAttribute("points")).toMatch(/\d/)
      })
    })

    const lookOf = async (of: Locator): Promise<{ readonly colour: string; readonly line: string }> =>
      of.evaluate((element) => {
        const look = element.ownerDocument.defaultView?.getComputedStyle(element)
        return { colour: look?.color, line: `${look?.textDecorationLine} ${look?.textDecorationStyle}` }
      })

    test("plain decoding has plain tokens, no line under them, and says why there is no tree", async () => {
      await field("speculation").selectOption("none")
      await field("max_tokens").fill("12")
      await page.locator("#generate").click()
      await ended()
      expect(await tokens("plain").count()).toBeGreaterThan(0)
      expect(await page.locator("#answer .drafted, #answer .corrected").count()).toBe(0)
      expect(await page.locator("#tree").textContent()).toMatch(/decoded one by one/)
    })

    test("Escape stops: the session ends on every rank, and the next one can begin", async () => {
      await field("max_tokens").fill("900")
      await page.locator("#prompt").focus()
      await page.keyboard.press("Control+Enter")
      await tokens("drafted").first().waitFor()
      await page.locator("#ranks .rank", { hasText: "1 session" }).first().waitFor()
      await page.keyboard.press("Escape")
      await status()
        .filter({ hasText: /^Stopped after \d+ tokens\.$/ })
        .waitFor()
      const idle = page.locator("#ranks .rank", { hasText: "0 sessions" })
      await idle.nth(2).waitFor() // all three ranks
      expect(await page.locator("#ranks .rank").count()).toBe(3)
      expect(await page.locator("#generate").isEnabled()).toBe(true)
      expect(await page.locator("#stop").isEnabled()).toBe(false)
    })

    test("a chat goes on: the next turn is sent with what was said before", async () => {
      await page.getByRole("radio", { name: "Chat" }).check()
      await field("max_tokens").fill("6")
      const said: Array<string> = []
      for (const message of ["class Queue", "function add"]) {
        await page.locator("#prompt").fill(message)
        const sent = page.waitForRequest((request) => request.url().endsWith("/playground/generate"))
        await page.keyboard.press("Control+Enter")
        said.push((await sent).postData() ?? "")
        await ended()
        expect(await page.locator("#prompt").inputValue()).toBe("")
      }
      const { messages } = JSON.parse(said[1] ?? "{}")
      const turn = await page.locator("#answer .turn:not(.prompt)").first().locator(".token").allTextContents()
      expect(messages).toEqual([
        { role: "user", content: "class Queue" },
        { role: "assistant", content: turn.join("") },
        { role: "user", content: "function add" },
      ])
    })

    describe("errors", () => {
      afterEach(() => {
        complaints = complaints.filter((line) => !/Failed to load resource/.test(line)) // Chromium's own word on a 400
      })

      test("what the gateway refuses is shown, and the field that is wrong has the focus", async () => {
        await field("max_tokens").fill("5000")
        await page.keyboard.press("Control+Enter")
        const alert = page.getByRole("alert")
        await alert.filter({ hasText: /asks for 5000 more, the context holds 1024/ }).waitFor()
        expect(await status().textContent()).toBe("Nothing was generated.")
        await field("seed").fill("99999999999999999999") // more than 64 bits
        await field("max_tokens").fill("4")
        await page.keyboard.press("Control+Enter")
        await alert.filter({ hasText: /seed/ }).waitFor()
        expect(await focused()).toBe("seed")
        await field("seed").fill("1")
        await page.keyboard.press("Control+Enter")
        await ended()
        expect(await alert.isVisible()).toBe(false)
      })

      test("what the form can see itself is not even sent", async () => {
        await field("temperature").fill("-1")
        await page.keyboard.press("Control+Enter")
        await page
          .getByRole("alert")
          .filter({ hasText: /^demo: this did not work.*Temperature: / })
          .waitFor()
        expect(await focused()).toBe("temperature")
        expect(loaded.some((url) => url.endsWith("/playground/generate"))).toBe(false)
      })

      test("a gateway that dies in the middle of an answer and comes back goes on with it", async () => {
        await page.close()
        const request = { prompt: PROMPT, maxTokens: 400, temperature: 0 }
        const { text } = await cluster.generate(request)
        await using doomed = await startGateway(cluster.local)
        ;({ page, complaints } = await watched(browser))
        await page.goto(doomed.url)
        await page.locator("#model option[value=demo]").waitFor({ state: "attached" })
        await page.locator("#prompt").fill(PROMPT)
        await field("temperature").fill("0")
        await field("max_tokens").fill("400")
        await page.keyboard.press("Control+Enter")
        await page.locator("#answer .token").nth(20).waitFor()
        doomed.child.kill("SIGKILL")
        await once(doomed.child, "exit")
        await using back = await startGateway(cluster.local, { CHORUS_HTTP_PORT: new URL(doomed.url).port })
        expect(back.url).toBe(doomed.url)
        await ended()
        expect(await textOf(page.locator("#answer .token"))).toBe(text)
        loaded = []
      })

      test("a gateway that wants a key is given one", async () => {
        await page.close()
        await using locked = await startGateway(cluster.local, { CHORUS_API_KEYS: "secret-of-the-test" })
        ;({ page, complaints } = await watched(browser))
        await page.goto(locked.url)
        const key = page.getByLabel("API key")
        await key.waitFor()
        await key.fill("secret-of-the-test")
        await key.blur()
        await page.locator("#model option[value=demo]").waitFor({ state: "attached" })
        await field("max_tokens").fill("4")
        await page.keyboard.press("Control+Enter")
        await ended()
        loaded = []
      })
    })

    test("dark as the system has it, light when it is chosen, and the choice outlives a reload", async () => {
      await page.close()
      await open({ colorScheme: "dark" })
      const ground = () => page.evaluate("getComputedStyle(document.body).backgroundColor")
      const dark = await ground()
      await page.getByLabel("Theme").selectOption("light")
      const light = await ground()
      expect(light).not.toBe(dark)
      await page.reload()
      expect(await ground()).toBe(light)
      await page.getByLabel("Theme").selectOption("dark")
      expect(await ground()).toBe(dark)
    })

    test("on a phone nothing is wider than the screen", async () => {
      await page.close()
      await open({ viewport: { width: 360, height: 740 } })
      await field("max_tokens").fill("24")
      await page.keyboard.press("Control+Enter")
      await ended()
      expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(360)
    })

    test("on a phone the answer is on the screen as soon as it begins, and so is what went wrong", async () => {
      const screen = { width: 390, height: 844 }
      await page.close()
      await open({ viewport: screen, hasTouch: true, isMobile: true })
      await field("max_tokens").fill("24")
      await page.locator("#generate").tap()
      await ended()
      for (const seen of [tokens("drafted").first(), status(), page.locator("#stop")]) {
        const { y = -1, height = 0 } = (await seen.boundingBox()) ?? {}
        expect(y).toBeGreaterThanOrEqual(0)
        expect(y + height).toBeLessThanOrEqual(screen.height)
      }
      await field("temperature").fill("-1")
      await page.locator("#generate").tap()
      const { y = -1, height = 0 } = (await page.getByRole("alert").boundingBox()) ?? {}
      expect(await page.getByRole("alert").textContent()).toMatch(/^demo: this did not work.*Temperature: /)
      expect(y).toBeGreaterThanOrEqual(0)
      expect(y + height).toBeLessThanOrEqual(screen.height)
    })

    test("a deployment without a draft and without a template is asked for neither a tree nor a chat", async () => {
      await page.close()
      await using plain = await Cluster.start({ name: "plain", draft: null })
      await using itsGateway = await startGateway(plain.local)
      ;({ page, complaints } = await watched(browser))
      await page.goto(itsGateway.url)
      await page.locator("form[data-speculation=none]").waitFor()
      expect(await field("speculation").isDisabled()).toBe(true)
      expect(await page.getByText("no draft model").isVisible()).toBe(true)
      expect(await field("depth").isVisible()).toBe(false)
      expect(await page.getByRole("radio", { name: "Chat" }).isDisabled()).toBe(true)
      expect(await page.getByText("no chat template").isVisible()).toBe(true)
      await field("max_tokens").fill("8")
      const sent = page.waitForRequest((request) => request.url().endsWith("/playground/generate"))
      await page.keyboard.press("Control+Enter")
      expect(JSON.parse((await sent).postData() ?? "{}")).toMatchObject({ model: "plain", speculation: "none" })
      await ended()
      expect(await tokens("plain").count()).toBe(8)
      await page.close() // before its gateway, which it would miss
      loaded = []
    })

    test("the page allows nothing but itself", async () => {
      const { headers } = await fetch(gateway.url)
      expect(headers.get("content-security-policy")).toMatch(/^default-src 'self';/)
      const inline = await page.evaluate(`{
    const script = document.createElement("script")
    script.textContent = "window.wasRun = true"
    document.body.append(script)
    "wasRun" in window
  }`)
      expect(inline).toBe(false)
      complaints = complaints.filter((line) => !/Content Security Policy/.test(line))
    })
  },
)
