/**
 * The parts of the configuration document that have a form. A field that is empty is left out of
 * the document, so that its default holds; what has no field here stays as it was.
 */

export type Document = Record<string, unknown>
export type FieldKind = 'text' | 'long' | 'number'

export type Section = 'persona' | 'rules' | 'llm' | 'speech' | 'limits'

export interface FormField {
  section: Section
  name: string
  kind: FieldKind
}

export interface ModelRow {
  provider: string
  model: string
  temperature: string
  maxTokens: string
  /** What else its entry has. */
  rest: Document
}

export interface Form {
  /** By "section.name". */
  texts: Record<string, string>
  onFailure: string
  /** Who writes down what voices say; empty for nobody. */
  hears: string
  language: string
  models: ModelRow[]
}

export const FIELDS: readonly FormField[] = [
  { section: 'persona', name: 'name', kind: 'text' },
  { section: 'persona', name: 'instructions', kind: 'long' },
  { section: 'persona', name: 'hand_over_text', kind: 'long' },
  { section: 'rules', name: 'answer_threshold', kind: 'number' },
  { section: 'rules', name: 'quiet_s', kind: 'number' },
  { section: 'llm', name: 'context_messages', kind: 'number' },
  { section: 'llm', name: 'first_token_s', kind: 'number' },
  { section: 'llm', name: 'total_s', kind: 'number' },
  { section: 'llm', name: 'fallback_text', kind: 'long' },
  { section: 'speech', name: 'model', kind: 'text' },
  { section: 'speech', name: 'wait_s', kind: 'number' },
  { section: 'limits', name: 'spool_max_bytes', kind: 'number' },
]

/** A model that nobody has said anything of. */
export function newModel(provider: string): ModelRow {
  return { provider, model: '', temperature: '', maxTokens: '', rest: {} }
}

/** As many as a document may ask in turn. */
export const MAX_MODELS = 5

export const keyOf = ({ section, name }: FormField): string => `${section}.${name}`

export function formFrom(document: Document): Form {
  const llm = sectionOf(document, 'llm')
  const speech = sectionOf(document, 'speech')
  return {
    texts: Object.fromEntries(
      FIELDS.map((field) => [keyOf(field), textOf(sectionOf(document, field.section)[field.name])]),
    ),
    onFailure: textOf(llm.on_failure),
    hears: textOf(speech.provider),
    language: textOf(speech.language),
    models: (Array.isArray(llm.models) ? llm.models : []).filter(isDocument).map(rowFrom),
  }
}

export function documentFrom(form: Form, before: Document): Document {
  const after: Document = { ...before }
  for (const field of FIELDS) put(after, field.section, field.name, valueOf(field, form.texts[keyOf(field)] ?? ''))
  put(after, 'llm', 'on_failure', form.onFailure || undefined)
  put(after, 'speech', 'provider', form.hears || undefined)
  put(after, 'speech', 'language', form.language || undefined)
  put(after, 'llm', 'models', form.models.length > 0 ? form.models.map(entryOf) : undefined)
  return after
}

/** Sets or, without a value, removes; a section that became empty goes with it. */
function put(document: Document, section: string, name: string, value: unknown): void {
  const changed = { ...sectionOf(document, section), [name]: value }
  if (value === undefined) Reflect.deleteProperty(changed, name)
  if (Object.keys(changed).length > 0) document[section] = changed
  else Reflect.deleteProperty(document, section)
}

function rowFrom({ provider, model, temperature, max_tokens, ...rest }: Document): ModelRow {
  return {
    provider: textOf(provider),
    model: textOf(model),
    temperature: textOf(temperature),
    maxTokens: textOf(max_tokens),
    rest,
  }
}

function entryOf({ provider, model, temperature, maxTokens, rest }: ModelRow): Document {
  return {
    provider,
    model: model.trim(),
    ...(temperature.trim() !== '' && { temperature: numberOf(temperature) }),
    ...(maxTokens.trim() !== '' && { max_tokens: numberOf(maxTokens) }),
    ...rest,
  }
}

function valueOf({ kind }: FormField, text: string): unknown {
  const trimmed = text.trim()
  if (trimmed === '') return undefined
  return kind === 'number' ? numberOf(trimmed) : trimmed
}

/** What is no number stays as it is: the server says what is wrong with it. */
function numberOf(text: string): number | string {
  return Number.isFinite(Number(text)) ? Number(text) : text.trim()
}

function sectionOf(document: Document, name: string): Document {
  const section = document[name]
  return isDocument(section) ? section : {}
}

function isDocument(value: unknown): value is Document {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function textOf(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : ''
}
