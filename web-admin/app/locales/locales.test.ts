import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import en from './en.json'
import zhCN from './zh-CN.json'

const APP = join(import.meta.dirname, '..')
const sources = readdirSync(APP, { recursive: true, encoding: 'utf8' })
  .filter((name) => /\.(vue|ts)$/.test(name) && !name.endsWith('.test.ts'))
  .map((name) => readFileSync(join(APP, name), 'utf8'))
  .join('\n')

interface Words { [key: string]: string | Words }

function keysOf(words: Words, prefix = ''): string[] {
  return Object.entries(words).flatMap(([key, value]) =>
    typeof value === 'string' ? [prefix + key] : keysOf(value, `${prefix}${key}.`),
  )
}

function textOf(words: Words, key: string): string {
  const found = key.split('.').reduce<string | Words>((at, part) => (at as Words)[part] ?? '', words)
  return typeof found === 'string' ? found : ''
}

const keys = keysOf(zhCN)

describe('the languages', () => {
  it('have the same keys', () => {
    expect(keysOf(en).toSorted()).toEqual(keys.toSorted())
  })

  it('have the same placeholders', () => {
    const placeholders = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
    const differing = keys.filter(
      (key) => placeholders(textOf(zhCN, key)).join() !== placeholders(textOf(en, key)).join(),
    )
    expect(differing).toEqual([])
  })

  it('have a word wherever the code asks for one', () => {
    const asked = [...sources.matchAll(/\bt\(\s*'([^']+)'/g)].map(([, key = '']) => key)
    expect(asked.length).toBeGreaterThan(50)
    expect(asked.filter((key) => !keys.includes(key))).toEqual([])
  })

  it('have words for what the code composes', () => {
    const composed = [...sources.matchAll(/\bt\(\s*`([^`]+)`/g)].map(([, key = '']) => key)
    const patterns = composed.map((key) => {
      const parts = key.split(/\$\{[^}]+\}/).map((part) => part.replaceAll('.', '\\.'))
      return { key, pattern: new RegExp(`^${parts.join('[\\w-]+')}$`) }
    })
    expect(patterns.length).toBeGreaterThan(5)
    expect(patterns.filter(({ pattern }) => !keys.some((key) => pattern.test(key)))).toEqual([])
  })
})
