/** What a kind of channel asks for, as its JSON Schema says; third parties' kinds say it the same way. */

import type { Schemas } from '../../api/paths'

interface Shape {
  $ref?: string
  type?: string
  format?: string
  enum?: string[]
  minimum?: number
  maximum?: number
  maxLength?: number
  anyOf?: Shape[]
}

interface Property extends Shape {
  title?: string
  title_zh?: string
  description?: string
  description_zh?: string
  default?: unknown
  /** The server keeps it by itself when that setting changes. */
  previous_of?: string
}

interface Schema {
  properties: Record<string, Property>
  $defs?: Record<string, Shape>
  required?: string[]
}

export type Kind = Schemas['ChannelKindOut']

export type FieldType = 'text' | 'long' | 'secret' | 'number' | 'flag' | 'choice' | 'list' | 'colour'

export interface Field {
  name: string
  type: FieldType
  title: string
  /** Empty where the kind has none. */
  titleZh: string
  hint: string
  hintZh: string
  isRequired: boolean
  choices: string[]
  maxLength: number
  default: unknown
}

/** A text that may be longer than this gets several lines. */
const LONG_TEXT = 300
/** Where a schema names no end. */
const LONGEST_TEXT = 10_000
/** What only private installations change; the form shows it last. */
const ADDRESS = /^(base|api|oapi|login|websocket)_url$/

/** What a person is asked for, the necessary first. */
export function fieldsOf({ settings, generated }: Pick<Kind, 'settings' | 'generated'>): Field[] {
  const { properties = {}, required = [], $defs = {} } = settings as Partial<Schema>
  return Object.entries(properties)
    .filter(([name, property]) => !generated.includes(name) && property.previous_of === undefined)
    .map(([name, property]) => fieldOf(name, property, shapeOf(property, $defs), required.includes(name)))
    .toSorted((one, other) => rank(one) - rank(other))
}

/** The kind's name for people; of one that is not installed any more, its own. */
export function titleOf(kinds: readonly Kind[], name: string, isChinese: boolean): string {
  const kind = kinds.find((each) => each.name === name)
  if (!kind) return name
  return isChinese ? kind.title_zh : kind.title
}

/** What is entered, where the schema says so elsewhere, or that it may be absent. */
function shapeOf(property: Property, defs: Record<string, Shape>): Shape {
  const shape = property.anyOf?.find(({ type }) => type !== 'null') ?? property
  return defs[shape.$ref?.split('/').at(-1) ?? ''] ?? shape
}

function fieldOf(name: string, property: Property, shape: Shape, isRequired: boolean): Field {
  return {
    name,
    type: typeOf(name, shape),
    title: property.title ?? name,
    titleZh: property.title_zh ?? '',
    hint: property.description ?? '',
    hintZh: property.description_zh ?? property.description ?? '',
    isRequired,
    choices: shape.enum ?? [],
    maxLength: shape.maxLength ?? LONGEST_TEXT,
    default: property.default ?? null,
  }
}

function typeOf(name: string, { type, format, enum: choices, maxLength = 0 }: Shape): FieldType {
  if (format === 'password') return 'secret'
  if (choices) return 'choice'
  if (type === 'boolean') return 'flag'
  if (type === 'integer' || type === 'number') return 'number'
  if (type === 'array') return 'list'
  if (name === 'accent') return 'colour'
  return maxLength >= LONG_TEXT && !name.endsWith('url') ? 'long' : 'text'
}

function rank({ name, type, isRequired }: Field): number {
  if (ADDRESS.test(name)) return 3
  if (type === 'choice') return 0
  return isRequired ? 1 : 2
}
