import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const APP = join(import.meta.dirname, '..')
const sources = readdirSync(APP, { recursive: true, encoding: 'utf8' })
  .filter((name) => /\.(vue|ts)$/.test(name) && !/\.test\.ts$|schema\.ts$/.test(name))
  .map((name) => readFileSync(join(APP, name), 'utf8'))
  .join('\n')

interface Words { [key: string]: string | Words }

/** The words by file of a language. */
function filesOf(language: string): Record<string, Words> {
  const folder = join(import.meta.dirname, language)
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.json'))
  return Object.fromEntries(
    names.map((name) => [name, JSON.parse(readFileSync(join(folder, name), 'utf8')) as Words]),
  )
}

function textsOf(words: Words, prefix = ''): [key: string, text: string][] {
  return Object.entries(words).flatMap(([key, value]): [string, string][] =>
    typeof value === 'string' ? [[prefix + key, value]] : textsOf(value, `${prefix}${key}.`),
  )
}

const textsIn = (language: string) => new Map(Object.values(filesOf(language)).flatMap((words) => textsOf(words)))
const zhCN = textsIn('zh-CN')
const en = textsIn('en')

/** Keys that the code composes: t(`a.${b}.c`), and the vocabularies, whose words the server names. */
const composed = [...sources.matchAll(/`([a-zA-Z]+\.[^`\s]*\$\{[^`\s]+)`/g)].map(([, key = '']) => {
  const parts = key.split(/\$\{[^}]+\}/).map((part) => part.replaceAll('.', '\\.'))
  return { key, pattern: new RegExp(`^${parts.join('[\\w-]+')}$`) }
})
const vocabularies = [...sources.matchAll(/\bword\(\s*'(\w+)'/g)].map(([, name = '']) => `${name}.`)
const literals = new Set([...sources.matchAll(/['"]([a-zA-Z]+(?:\.[\w-]+)+)['"]/g)].map(([, key = '']) => key))

describe('the languages', () => {
  it('have the same keys in the same files', () => {
    const shape = (language: string) =>
      Object.entries(filesOf(language)).map(([file, words]) => [file, textsOf(words).map(([key]) => key).toSorted()])
    expect(shape('en')).toEqual(shape('zh-CN'))
  })

  it('have each word in one file', () => {
    const areas = Object.values(filesOf('zh-CN')).flatMap((words) => Object.keys(words))
    expect(areas.filter((area, index) => areas.indexOf(area) !== index)).toEqual([])
  })

  it('have the same placeholders', () => {
    const placeholders = (text = '') => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).toSorted()
    const differing = [...zhCN].filter(([key, text]) => placeholders(text).join() !== placeholders(en.get(key)).join())
    expect(differing).toEqual([])
  })

  it('have a word wherever the code asks for one', () => {
    const asked = [...sources.matchAll(/\bt\(\s*'([^']+)'/g)].map(([, key = '']) => key)
    expect(asked.length).toBeGreaterThan(50)
    expect(asked.filter((key) => !zhCN.has(key))).toEqual([])
  })

  it('have words for what the code composes', () => {
    const asked = [...sources.matchAll(/\bt\(\s*`([^`]+)`/g)].map(([, key = '']) => key)
    expect(asked.length).toBeGreaterThan(3)
    const wordless = composed.filter(
      ({ key, pattern }) => asked.includes(key) && ![...zhCN.keys()].some((known) => pattern.test(known)),
    )
    expect(wordless).toEqual([])
    expect(vocabularies.filter((name) => ![...zhCN.keys()].some((known) => known.startsWith(name)))).toEqual([])
  })

  it('have no word that nobody asks for', () => {
    const unused = [...zhCN.keys()].filter(
      (key) =>
        !literals.has(key) &&
        !composed.some(({ pattern }) => pattern.test(key)) &&
        !vocabularies.some((name) => key.startsWith(name)),
    )
    expect(unused).toEqual([])
  })
})
