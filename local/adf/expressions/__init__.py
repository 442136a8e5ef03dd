"""Data Factory's expression language: `@pipeline().parameters.x`, `@{…}` inside texts, functions.

See https://learn.microsoft.com/azure/data-factory/control-flow-expression-language-functions
"""
