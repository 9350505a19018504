/**
 * What can be done from the keyboard, said once: the keys, the sheet of keys and the palette all read
 * from here. Parts add their commands while they are there.
 */

import { onScopeDispose, shallowReactive } from 'vue'

export interface Command {
  /** Unique; a later one of the same name stands in for the earlier while it is there. */
  id: string
  /** A key of the words, or words of its own. */
  title: string
  words?: () => Record<string, string>
  /** As `keyOf` writes it: `j`, `?`, `mod+k`. Without one it is in the palette only. */
  key?: string
  run: () => void
  /** Where it would do nothing it is not offered. */
  isOffered?: () => boolean
}

/** What keys do in a field in which somebody writes; the fields themselves hear them. */
export const FIELD_KEYS = [
  { key: 'Enter', title: 'commands.field.send' },
  { key: 'Shift+Enter', title: 'commands.field.line' },
  { key: '/', title: 'commands.field.canned' },
  { key: '@', title: 'commands.field.call' },
  { key: 'Esc', title: 'commands.field.leave' },
] as const

const commands = shallowReactive<Command[]>([])

/** Those that would do something now, in the order in which they were added. */
export function offered(): Command[] {
  const byId = new Map(commands.map((command) => [command.id, command]))
  return [...byId.values()].filter(({ isOffered }) => isOffered?.() ?? true)
}

export function useCommands(added: readonly Command[]): void {
  commands.push(...added)
  onScopeDispose(() => {
    for (const command of added) commands.splice(commands.indexOf(command), 1)
  })
}

/** The name of a key press; empty for what is no command, such as letters in a field. */
export function keyOf(event: KeyboardEvent): string {
  if (event.isComposing || event.keyCode === 229 || event.altKey) return ''
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key
  if (event.ctrlKey || event.metaKey) return `mod+${key}`
  return isField(event.target) ? '' : key
}

function isField(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName))
  )
}

/** Runs what belongs to a key press; whether there was something. */
export function press(event: KeyboardEvent): boolean {
  const key = keyOf(event)
  const command = key === '' ? undefined : offered().findLast((one) => one.key === key)
  if (!command || event.defaultPrevented) return false
  event.preventDefault()
  command.run()
  return true
}

/** Those whose titles hold all words that were typed. */
export function matching(titles: readonly string[], typed: string): number[] {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean)
  return titles.flatMap((title, index) =>
    words.every((word) => title.toLowerCase().includes(word)) ? [index] : [],
  )
}
