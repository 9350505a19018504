/** Which kinds of channel there are and what each asks for, as their JSON Schemas say. */

import told from './kinds.json'

interface Shape {
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
  description?: string
  default?: unknown
  /** We make it up; nobody enters it. */
  generated?: boolean
  /** The server keeps it by itself when that setting changes. */
  previous_of?: string
}

export interface Schema {
  properties: Record<string, Property>
  required?: string[]
}

export interface Kind {
  name: string
  title: string
  /** Its platform must be told our address. */
  callback: boolean
  schema: Schema
}

export type FieldType = 'text' | 'long' | 'secret' | 'number' | 'flag' | 'choice' | 'list' | 'colour'

export interface Field {
  name: string
  type: FieldType
  title: string
  hint: string
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

export const kinds: Kind[] = told as unknown as Kind[]

export function kindOf(name: string): Kind | undefined {
  return kinds.find((kind) => kind.name === name)
}

/** What a person is asked for, the necessary first. */
export function fieldsOf({ properties, required = [] }: Schema): Field[] {
  return Object.entries(properties)
    .filter(([, property]) => !property.generated && property.previous_of === undefined)
    .map(([name, property]) => fieldOf(name, property, required.includes(name)))
    .toSorted((one, other) => rank(one) - rank(other))
}

function fieldOf(name: string, property: Property, isRequired: boolean): Field {
  const shape = property.anyOf?.find(({ type }) => type !== 'null') ?? property
  return {
    name,
    type: typeOf(name, shape),
    title: property.title ?? name,
    hint: property.description ?? '',
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
