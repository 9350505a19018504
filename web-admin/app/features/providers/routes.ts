import type { RouteRecordRaw } from 'vue-router'

export const providersRoutes: RouteRecordRaw[] = [
  {
    path: 'providers',
    name: 'providers',
    component: () => import('./ProvidersPage.vue'),
    meta: {
      audience: 'member',
      permission: 'providers.read',
      nav: { group: 'console', order: 40, label: 'nav.providers' },
    },
  },
]
