/** A channel's settings as they are being entered: every field is a text or a flag until it is sent. */

import type { Field } from './kinds'

export type Entered = Record<string, string | boolean>
export type Settings = Record<string, unknown>

/** What the form shows at first; a secret is never shown. */
export function enteredFrom(fields: Field[], settings: Settings): Entered {
  return Object.fromEntries(fields.map((field) => [field.name, shown(field, settings[field.name])]))
}

/** What is sent: only what differs, null where a field was emptied so that its default comes back. */
export function changesOf(fields: Field[], before: Entered, entered: Entered): Settings {
  return Object.fromEntries(
    fields
      .filter(({ name }) => entered[name] !== before[name])
      .map((field) => [field.name, valueOf(field, entered[field.name] ?? '')]),
  )
}

/** The necessary fields that are empty; a secret that is set already may stay so. */
export function missingIn(fields: Field[], entered: Entered, secretsSet: readonly string[]): string[] {
  return fields
    .filter(({ name, isRequired }) => isRequired && entered[name] === '' && !secretsSet.includes(name))
    .map(({ name }) => name)
}

function shown(field: Field, value: unknown): string | boolean {
  if (field.type === 'secret') return ''
  const known = value ?? field.default
  if (field.type === 'flag') return known === true
  if (field.type === 'list') return Array.isArray(known) ? known.join('\n') : ''
  return typeof known === 'string' || typeof known === 'number' ? String(known) : ''
}

function valueOf({ type }: Field, entered: string | boolean): unknown {
  if (typeof entered === 'boolean') return entered
  const text = entered.trim()
  if (type === 'list') return text.split(/\s+/).filter(Boolean)
  if (text === '') return null
  // What is no number is sent as it is: the server says what is wrong with it.
  return type === 'number' && Number.isFinite(Number(text)) ? Number(text) : text
}
