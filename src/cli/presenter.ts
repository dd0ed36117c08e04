// What --help, --version and a usage error print: help on stdout when it was asked for, else one line on stderr for each
// thing that is wrong and where to read on.
import { Console, Effect, Option } from "effect"
import { CliOutput, type HelpDoc } from "effect/cli"
import { wantsColour } from "./colour.ts"

export const presenter: CliOutput.Presenter = {
  present: Effect.fnUntraced(function* (event) {
    switch (event._tag) {
      case "Help": {
        const colors = wantsColour(process.stdout, process.env)
        const formatter = CliOutput.defaultFormatter({ colors, globalFlags: "none" })
        return yield* Console.log(formatter.formatHelpDoc(withNegations(event.helpDoc)))
      }
      case "Version":
        return yield* Console.log(`${event.name} ${event.version}`)
      case "InvalidInvocation":
        for (const error of event.errors) yield* Console.error(`chorus: ${oneLine(error.message)}`)
        return yield* Console.error(`Try \`${event.commandPath.join(" ")} --help\`.`)
    }
  }),
}

/** A flag whose description speaks of its negation is shown as --[no-]flag. */
const withNegations = (doc: HelpDoc.HelpDoc): HelpDoc.HelpDoc => ({
  ...doc,
  flags: doc.flags.map((flag) =>
    Option.getOrElse(flag.description, () => "").includes(`--no-${flag.name}`)
      ? { ...flag, name: `[no-]${flag.name}` }
      : flag,
  ),
})

/** A message without line breaks. */
export const oneLine = (message: string): string => message.trim().replaceAll(/\s*\n\s*/g, " ")
