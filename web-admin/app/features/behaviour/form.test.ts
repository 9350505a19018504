import { describe, expect, it } from 'vitest'
import { documentFrom, formFrom, newModel } from './form'

const document = {
  persona: { name: '小书', hand_over_text: '请稍等' },
  llm: { models: [{ provider: 'p1', model: 'small', temperature: 0.2 }], context_messages: 12 },
  limits: { spool_max_bytes: 1_048_576 },
}

describe('the form of a document', () => {
  it('gives back the same document when nothing was changed', () => {
    expect(documentFrom(formFrom(document), document)).toEqual(document)
    expect(documentFrom(formFrom({}), {})).toEqual({})
  })

  it('leaves an emptied field out, and a section with it that became empty', () => {
    const form = formFrom(document)
    form.texts['persona.name'] = ' '
    form.texts['persona.hand_over_text'] = ''
    expect(documentFrom(form, document)).not.toHaveProperty('persona')
  })

  it('writes numbers as numbers, and what is none as it is', () => {
    const form = formFrom({})
    form.texts['rules.answer_threshold'] = '0.7'
    form.texts['rules.quiet_s'] = 'soon'
    expect(documentFrom(form, {})).toEqual({ rules: { answer_threshold: 0.7, quiet_s: 'soon' } })
  })

  it('keeps what of a model has no field', () => {
    const form = formFrom(document)
    form.models.push({ ...newModel('p2'), model: ' big ', maxTokens: '800' })
    expect(documentFrom(form, document).llm).toEqual({
      context_messages: 12,
      models: [
        { provider: 'p1', model: 'small', temperature: 0.2 },
        { provider: 'p2', model: 'big', max_tokens: 800 },
      ],
    })
  })

  it('says who hears voices, and that nobody does', () => {
    const form = formFrom({ speech: { provider: null, model: '', language: null, wait_s: 10 } })
    expect(form.hears).toBe('')
    form.hears = 'p1'
    form.language = 'zh'
    form.texts['speech.model'] = 'whisper-1'
    const document = documentFrom(form, {})
    expect(document).toEqual({ speech: { provider: 'p1', model: 'whisper-1', language: 'zh', wait_s: 10 } })
    const silent = formFrom(document)
    silent.hears = ''
    expect(documentFrom(silent, document).speech).not.toHaveProperty('provider')
  })

  it('does not touch the document that it was made from', () => {
    const form = formFrom(document)
    form.texts['persona.name'] = 'other'
    documentFrom(form, document)
    expect(document.persona.name).toBe('小书')
  })
})
