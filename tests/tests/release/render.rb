# Renders the templates of a job as a BOSH director does: with the properties that its spec declares, `p`, `if_p`, `link` and
# `spec`. Reads {"job": folder, "spec", "properties", "links"} from standard input, prints {path on the VM: text}.
require 'erb'
require 'json'
require 'ostruct'
require 'yaml'

class Job
  attr_reader :spec

  def initialize(document, declared)
    @spec = OpenStruct.new(document['spec'])
    @links = document['links']
    @properties = declared.to_h do |name, about|
      given = document['properties'].dig(*name.split('.'))
      [name, given.nil? ? about['default'] : given]
    end
  end

  def p(name, *default)
    value = @properties[name]
    return value unless value.nil?
    raise "Can't find property '#{name}'" if default.empty?

    default.first
  end

  def if_p(*names)
    values = @properties.values_at(*names)
    yield(*values) unless values.any?(&:nil?)
  end

  def link(name)
    instances = @links.fetch(name) { raise "Can't find link '#{name}'" }
    OpenStruct.new(instances: instances.map { |instance| OpenStruct.new(instance) })
  end

  def render(path)
    ERB.new(File.read(path), trim_mode: '-').result(binding)
  end
end

document = JSON.parse($stdin.read)
folder = document['job']
spec = YAML.safe_load(File.read("#{folder}/spec"))
job = Job.new(document, spec['properties'])
rendered = spec['templates'].to_h { |source, path| [path, job.render("#{folder}/templates/#{source}")] }
puts JSON.generate(rendered.merge('monit' => job.render("#{folder}/monit")))
